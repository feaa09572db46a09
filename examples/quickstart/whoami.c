/*
 * whoami: says which container it runs in. One static program, so that its image needs nothing else.
 *
 *   PORT     port to listen on, or several separated by commas (default 8000)
 *   TYPE     HTTP (default): answers every request with "I'm <host name>"
 *            TCP: greets with that line and sends every line back
 *   LINGER   seconds to go on after SIGTERM (default 0)
 *
 * GET /sick and GET /well decide what GET /health answers; `whoami check` asks for that and fails on 503. GET /slow/N takes N
 * tenths of a second: a line comes with each.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PORTS = 16, REQUEST = 8192 };

static char host[256];
static volatile int *sick; /* shared by all processes */

static void on_term(int signal) {
    (void)signal;
    const char *linger = getenv("LINGER");
    int seconds = linger ? atoi(linger) : 0;
    if (seconds <= 0)
        _exit(0);
    alarm((unsigned)seconds);
}

static void on_alarm(int signal) {
    (void)signal;
    _exit(0);
}

static int say(int client, const char *text, size_t length) {
    while (length > 0) {
        ssize_t sent = write(client, text, length);
        if (sent <= 0)
            return -1;
        text += sent;
        length -= (size_t)sent;
    }
    return 0;
}

static int answer_slowly(int client, int lines) {
    char text[600];
    int length = snprintf(text, sizeof text, "I'm %s\n", host);
    dprintf(client, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", lines * length);
    for (int i = 0; i < lines; i++) {
        usleep(100000);
        if (say(client, text, (size_t)length) != 0)
            return -1;
    }
    return 0;
}

static int answer(int client, const char *request) {
    int lines = 0;
    if (sscanf(request, "GET /slow/%d ", &lines) == 1 && lines > 0 && lines <= 6000)
        return answer_slowly(client, lines);
    const char *status = "200 OK";
    char body[300], reply[600];
    if (strncmp(request, "GET /sick ", 10) == 0)
        *sick = 1;
    if (strncmp(request, "GET /well ", 10) == 0)
        *sick = 0;
    if (strncmp(request, "GET /health ", 12) == 0 && *sick)
        status = "503 Service Unavailable";
    snprintf(body, sizeof body, "I'm %s\n", host);
    int length = snprintf(reply, sizeof reply,
                          "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n%s", status,
                          strlen(body), body);
    return say(client, reply, (size_t)length);
}

/* Answers requests without bodies, one after the other, until the client closes or asks to. */
static void serve_http(int client) {
    char request[REQUEST + 1];
    size_t have = 0;
    for (;;) {
        ssize_t got = read(client, request + have, REQUEST - have);
        if (got <= 0)
            return;
        have += (size_t)got;
        request[have] = 0;
        char *end;
        while ((end = strstr(request, "\r\n\r\n")) != NULL) {
            *end = 0;
            int last = strcasestr(request, "\r\nconnection: close") != NULL;
            if (answer(client, request) != 0 || last)
                return;
            have -= (size_t)(end + 4 - request);
            memmove(request, end + 4, have + 1);
        }
        if (have == REQUEST)
            return;
    }
}

static void serve_tcp(int client) {
    char text[REQUEST];
    int length = snprintf(text, sizeof text, "I'm %s\n", host);
    ssize_t got = length;
    while (got > 0 && say(client, text, (size_t)got) == 0)
        got = read(client, text, sizeof text);
}

static int listen_on(int port) {
    int listener = socket(AF_INET6, SOCK_STREAM, 0), yes = 1, no = 0;
    struct sockaddr_in6 both = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int bound = -1;
    if (listener >= 0) {
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
        bound = bind(listener, (struct sockaddr *)&both, sizeof both);
    }
    if (bound != 0) { /* a container without IPv6 */
        if (listener >= 0)
            close(listener);
        listener = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        bound = bind(listener, (struct sockaddr *)&four, sizeof four);
    }
    if (bound != 0 || listen(listener, 1024) != 0) {
        fprintf(stderr, "whoami: cannot listen on port %d\n", port);
        exit(1);
    }
    return listener;
}

static int check(int port) {
    static const char request[] = "GET /health HTTP/1.1\r\nConnection: close\r\n\r\n";
    struct sockaddr_in self = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    self.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    char reply[64] = "";
    int server = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(server, (struct sockaddr *)&self, sizeof self) != 0 || say(server, request, sizeof request - 1) != 0)
        return 1;
    return read(server, reply, sizeof reply - 1) > 0 && strncmp(reply, "HTTP/1.1 200", 12) == 0 ? 0 : 1;
}

int main(int argc, char **argv) {
    const char *wanted = getenv("PORT"), *type = getenv("TYPE");
    char list[256];
    snprintf(list, sizeof list, "%s", wanted && *wanted ? wanted : "8000");
    if (argc > 1 && strcmp(argv[1], "check") == 0)
        return check(atoi(list));

    gethostname(host, sizeof host - 1);
    sick = mmap(NULL, sizeof *sick, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sick == MAP_FAILED)
        return 1;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_IGN); /* children are reaped by themselves */
    signal(SIGTERM, on_term);
    signal(SIGINT, on_alarm);
    signal(SIGALRM, on_alarm);

    struct pollfd listeners[PORTS];
    nfds_t count = 0;
    for (char *rest = list, *port; count < PORTS && (port = strsep(&rest, ",")) != NULL; count++)
        listeners[count] = (struct pollfd){.fd = listen_on(atoi(port)), .events = POLLIN};

    for (;;) {
        if (poll(listeners, count, -1) <= 0)
            continue;
        for (nfds_t i = 0; i < count; i++) {
            int client = listeners[i].revents & POLLIN ? accept(listeners[i].fd, NULL, NULL) : -1;
            if (client >= 0 && fork() == 0) {
                signal(SIGTERM, SIG_DFL);
                if (type && strcasecmp(type, "TCP") == 0)
                    serve_tcp(client);
                else
                    serve_http(client);
                _exit(0);
            }
            if (client >= 0)
                close(client);
        }
    }
}
