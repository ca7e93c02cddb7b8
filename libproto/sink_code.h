/*
 * The error codes of sinkd: what functions return, what travels as a name on the wire, and what libsink's callers see.
 * Installed beside sink.h. A code is never reused or renumbered.
 */
#ifndef SINK_CODE_H
#define SINK_CODE_H

enum sink_code {
	SINK_OK = 0,
	SINK_EINVAL = -1,     /* a value of the wrong type or out of its range */
	SINK_ENOENT = -2,     /* no such conversation, message, model or file */
	SINK_EEXIST = -3,     /* the name is taken */
	SINK_EBUSY = -4,      /* a limit is reached; the same call may pass later */
	SINK_EFORMAT = -5,    /* a file or message is damaged, truncated or of another version */
	SINK_ENOMEM = -6,     /* host or device memory */
	SINK_EIO = -7,	      /* the system refused a read, write, sync or map */
	SINK_EDEVICE = -8,    /* the accelerator failed or is absent */
	SINK_EPROTO = -9,     /* the peer speaks another version of the protocol, or an unknown verb */
	SINK_EGONE = -10,     /* a cursor points before the oldest event that is kept */
	SINK_ECONN = -11,     /* no daemon answers at this endpoint */
	SINK_ETIMEDOUT = -12, /* the answer did not come in the time given */
};

#endif
