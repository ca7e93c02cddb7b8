/* The service manager, where there is one: sockets that it passes in, and what it is told. */
#ifndef CLIENT_HTTP_MANAGER_H
#define CLIENT_HTTP_MANAGER_H

#include <stddef.h>

/* Takes the listening sockets that were passed in, at most `most`; how many there are. They are closed on exec. */
size_t http_manager_sockets(int *fd, size_t most);

/* Says "READY=1" and the like. Nobody need be there. */
void http_manager_say(const char *text);

#endif
