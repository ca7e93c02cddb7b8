/*
 * How many cores a control group's quota leaves. Apart from kernels_cores() so that a test can point it at files of its
 * own.
 */
#ifndef KERNELS_CORES_H
#define KERNELS_CORES_H

/*
 * Reads the process's groups from the file `groups` (/proc/self/cgroup) and the quotas of each and of all its parents
 * below the mount `root` (/sys/fs/cgroup), version 2 (cpu.max) and version 1 (cpu/cpu.cfs_quota_us). Gives the least
 * one in cores, rounded up, at least 1; `most` when nothing is limited or nothing can be read.
 */
int cores_in_quota(const char *groups, const char *root, int most);

#endif
