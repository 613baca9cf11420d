/* One figure's work by nats.c, once, and its report: what `worker.rs` is for the Rust clients.
 *
 * Compiled when it is wanted, by `nats_c.rs`, which also defines every name in capitals that is not defined here:
 * subjects, payloads and batches are those of the other clients. Arguments: work (publish, receive, request), requests
 * in flight, payload size, URL and length (`7m` messages or `500000us`). The report is one line of JSON on standard
 * output. */

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <nats/nats.h>

/* Between two moments at which nothing may be heard before a request or a flush has failed. */
#define TIMEOUT_MS 10000
/* More than this takes as much CPU time and less takes more, measured from 32 KiB (the default) to 1 MiB. */
#define IO_BUFFER_BYTES (64 * 1024)

static void die(const char *what, const char *why)
{
    fprintf(stderr, "nats.c: %s: %s\n", what, why);
    exit(1);
}

static void check(natsStatus status, const char *what)
{
    if (status != NATS_OK)
        die(what, natsStatus_GetText(status));
}

/* Payloads and their sum. */

typedef struct
{
    uint64_t messages, bytes, stamps;
} Tally;

static char *payloads[DISTINCT_PAYLOADS];
static size_t payload_bytes;

static void make_payloads(void)
{
    for (uint64_t index = 0; index < DISTINCT_PAYLOADS; index++)
    {
        uint64_t stamp = (index + 1) * STAMP_STEP;
        payloads[index] = malloc(payload_bytes);
        if (payloads[index] == NULL)
            die("make a payload", "no memory");
        memset(payloads[index], '.', payload_bytes);
        for (size_t byte = 0; byte < STAMP_BYTES; byte++)
            payloads[index][byte] = (char)(stamp >> (8 * byte));
    }
}

static const char *payload_at(uint64_t number)
{
    return payloads[number % DISTINCT_PAYLOADS];
}

static void tally_add(Tally *tally, const char *data, size_t bytes)
{
    tally->messages++;
    tally->bytes += bytes;
    if (bytes >= STAMP_BYTES)
    {
        uint64_t stamp = 0;
        for (size_t byte = 0; byte < STAMP_BYTES; byte++)
            stamp |= (uint64_t)(unsigned char)data[byte] << (8 * byte);
        tally->stamps += stamp;
    }
}

static void tally_plus(Tally *tally, const Tally *other)
{
    tally->messages += other->messages;
    tally->bytes += other->bytes;
    tally->stamps += other->stamps;
}

/* Clocks and the length of a section. */

static double wall_us(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static double cpu_us(void)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0)
        die("getrusage", "refused");
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

typedef struct
{
    uint64_t messages; /* 0: `us` counts */
    double us;
    double start;
} Quota;

static Quota begin(Quota length)
{
    length.start = wall_us();
    return length;
}

/* How many to begin next, at most `batch`, when `begun` have been begun; 0 if that is enough. */
static uint64_t quota_next(const Quota *quota, uint64_t begun, uint64_t batch)
{
    if (quota->messages > 0)
    {
        uint64_t left = quota->messages > begun ? quota->messages - begun : 0;
        return left < batch ? left : batch;
    }
    return begun == 0 || wall_us() - quota->start < quota->us ? batch : 0;
}

/* What all sections have passed, and the measured one. */

static Tally swallowed, flooded, echoed;
static double *round_trips;
static size_t round_trips_count, round_trips_room;
static bool keeps_round_trips;

static natsConnection *connection;

/* One request, whose answer must be its own payload. */
static void echo(uint64_t number)
{
    natsMsg *answer = NULL;
    check(natsConnection_Request(&answer, connection, ECHO_SUBJECT, payload_at(number), (int)payload_bytes,
                                 TIMEOUT_MS),
          "request");
    if ((size_t)natsMsg_GetDataLength(answer) != payload_bytes ||
        memcmp(natsMsg_GetData(answer), payload_at(number), payload_bytes) != 0)
        die("request", "was answered with something else");
    natsMsg_Destroy(answer);
}

/* Publish. */

static uint64_t publish_for(Quota length)
{
    Quota quota = begin(length);
    uint64_t published = 0, batch;
    while ((batch = quota_next(&quota, published, PUBLISH_BATCH)) > 0)
    {
        for (uint64_t number = published; number < published + batch; number++)
            check(natsConnection_Publish(connection, DATA_SUBJECT, payload_at(number), (int)payload_bytes),
                  "publish");
        published += batch;
    }
    /* Made once, not on the way: summing is nobody's cost. */
    Tally round = {0};
    for (uint64_t index = 0; index < DISTINCT_PAYLOADS; index++)
        tally_add(&round, payload_at(index), payload_bytes);
    uint64_t rounds = published / DISTINCT_PAYLOADS;
    swallowed.messages += rounds * round.messages;
    swallowed.bytes += rounds * round.bytes;
    swallowed.stamps += rounds * round.stamps;
    for (uint64_t number = rounds * DISTINCT_PAYLOADS; number < published; number++)
        tally_add(&swallowed, payload_at(number), payload_bytes);
    check(natsConnection_FlushTimeout(connection, TIMEOUT_MS), "flush");
    echo(0);
    tally_add(&echoed, payload_at(0), payload_bytes);
    return published;
}

/* Receive. */

static struct
{
    pthread_mutex_t mutex;
    pthread_cond_t over;
    bool is_over;
    Quota quota;
    uint64_t batch, ordered, until_look;
    Tally tally;
} flood = {.mutex = PTHREAD_MUTEX_INITIALIZER, .over = PTHREAD_COND_INITIALIZER};

/* Counts the next part of the flood as ordered; how many messages that is, 0 if there is enough. */
static uint64_t next_order(void)
{
    uint64_t messages = quota_next(&flood.quota, flood.ordered, flood.batch);
    flood.ordered += messages;
    return messages;
}

static void send_order(uint64_t messages)
{
    char text[64];
    int length = snprintf(text, sizeof text, "%" PRIu64 " %zu", messages, payload_bytes);
    check(natsConnection_Publish(connection, FLOOD_SUBJECT, text, length), "order a flood");
}

static void on_message(natsConnection *nc, natsSubscription *subscription, natsMsg *message, void *closure)
{
    (void)nc;
    (void)subscription;
    (void)closure;
    tally_add(&flood.tally, natsMsg_GetData(message), (size_t)natsMsg_GetDataLength(message));
    natsMsg_Destroy(message);
    if (--flood.until_look > 0)
        return;
    uint64_t next = next_order();
    uint64_t outstanding = flood.ordered - flood.tally.messages;
    flood.until_look = outstanding < flood.batch ? outstanding : flood.batch;
    if (next > 0)
        send_order(next);
    if (outstanding > 0)
        return;
    pthread_mutex_lock(&flood.mutex);
    flood.is_over = true;
    pthread_cond_signal(&flood.over);
    pthread_mutex_unlock(&flood.mutex);
}

static uint64_t receive_for(Quota length)
{
    /* Nothing is on its way, so nobody else looks at these. */
    flood.quota = begin(length);
    flood.ordered = 0;
    flood.tally = (Tally){0};
    flood.is_over = false;
    /* All are counted before the first is sent: from then on the subscription's thread counts. */
    uint64_t orders[ORDERS_OUT];
    for (int out = 0; out < ORDERS_OUT; out++)
        orders[out] = next_order();
    flood.until_look = orders[0];
    for (int out = 0; out < ORDERS_OUT; out++)
        if (orders[out] > 0)
            send_order(orders[out]);
    pthread_mutex_lock(&flood.mutex);
    while (!flood.is_over)
        pthread_cond_wait(&flood.over, &flood.mutex);
    pthread_mutex_unlock(&flood.mutex);
    tally_plus(&flooded, &flood.tally);
    return flood.tally.messages;
}

/* Requests. */

static pthread_mutex_t requests_mutex = PTHREAD_MUTEX_INITIALIZER;
static uint64_t requests_begun;
static Quota requests_quota;

static void keep_round_trip(double us)
{
    if (round_trips_count == round_trips_room)
    {
        round_trips_room = round_trips_room == 0 ? 1024 : round_trips_room * 2;
        round_trips = realloc(round_trips, round_trips_room * sizeof *round_trips);
        if (round_trips == NULL)
            die("keep a round trip", "no memory");
    }
    round_trips[round_trips_count++] = us;
}

static void *request_loop(void *closure)
{
    Tally *tally = closure;
    for (;;)
    {
        pthread_mutex_lock(&requests_mutex);
        uint64_t first = requests_begun;
        requests_begun += REQUEST_BATCH;
        pthread_mutex_unlock(&requests_mutex);
        uint64_t batch = quota_next(&requests_quota, first, REQUEST_BATCH);
        if (batch == 0)
            return NULL;
        for (uint64_t number = first; number < first + batch; number++)
        {
            double start = keeps_round_trips ? wall_us() : 0;
            echo(number);
            if (keeps_round_trips)
                keep_round_trip(wall_us() - start);
            tally_add(tally, payload_at(number), payload_bytes);
        }
    }
}

#define IN_FLIGHT_MAX 1024

static uint64_t request_for(Quota length, size_t in_flight)
{
    static pthread_t threads[IN_FLIGHT_MAX];
    static Tally tallies[IN_FLIGHT_MAX];
    memset(tallies, 0, sizeof tallies);
    requests_begun = 0;
    round_trips_count = 0;
    requests_quota = begin(length);
    if (in_flight == 1)
        request_loop(&tallies[0]);
    else
    {
        /* A request of nats.c blocks its thread. */
        for (size_t loop = 0; loop < in_flight; loop++)
            if (pthread_create(&threads[loop], NULL, request_loop, &tallies[loop]) != 0)
                die("start a thread", "refused");
        for (size_t loop = 0; loop < in_flight; loop++)
            pthread_join(threads[loop], NULL);
    }
    Tally total = {0};
    for (size_t loop = 0; loop < in_flight; loop++)
        tally_plus(&total, &tallies[loop]);
    tally_plus(&echoed, &total);
    return total.messages;
}

/* The whole. */

static uint64_t work_for(const char *work, size_t in_flight, Quota length)
{
    if (strcmp(work, "publish") == 0)
        return publish_for(length);
    if (strcmp(work, "receive") == 0)
        return receive_for(length);
    if (strcmp(work, "request") == 0)
        return request_for(length, in_flight);
    die(work, "is no work");
    return 0;
}

static int compare(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void print_tally(const char *name, const Tally *tally, const char *after)
{
    printf("\"%s\":{\"messages\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"stamps\":%" PRIu64 "}%s", name, tally->messages,
           tally->bytes, tally->stamps, after);
}

static Quota length_of(const char *text)
{
    char *unit;
    unsigned long long number = strtoull(text, &unit, 10);
    Quota length = {0};
    if (strcmp(unit, "m") == 0 && number > 0)
        length.messages = number;
    else if (strcmp(unit, "us") == 0)
        length.us = (double)number;
    else
        die(text, "is no length");
    return length;
}

int main(int count, char **arguments)
{
    if (count == 2 && strcmp(arguments[1], "version") == 0)
    {
        puts(nats_GetVersion());
        return 0;
    }
    if (count != 6)
        die("arguments", "WORK IN_FLIGHT PAYLOAD_BYTES URL LENGTH");
    const char *work = arguments[1];
    size_t in_flight = strtoul(arguments[2], NULL, 10);
    payload_bytes = strtoul(arguments[3], NULL, 10);
    if (in_flight < 1 || in_flight > IN_FLIGHT_MAX || payload_bytes < STAMP_BYTES)
        die("arguments", "out of bounds");
    Quota length = length_of(arguments[5]);
    keeps_round_trips = strcmp(work, "request") == 0 && in_flight == 1;
    make_payloads();

    natsOptions *options = NULL;
    check(natsOptions_Create(&options), "make options");
    check(natsOptions_SetURL(options, arguments[4]), "set the URL");
    check(natsOptions_SetIOBufSize(options, IO_BUFFER_BYTES), "set the buffer");
    check(natsConnection_Connect(&connection, options), "connect");
    natsSubscription *subscription = NULL;
    if (strcmp(work, "receive") == 0)
    {
        flood.batch = ORDER_BYTES / (payload_bytes + CONTROL_LINE_BYTES);
        check(natsConnection_Subscribe(&subscription, connection, DATA_SUBJECT, on_message, NULL), "subscribe");
        check(natsSubscription_SetPendingLimits(subscription, -1, -1), "lift the limits");
        check(natsConnection_FlushTimeout(connection, TIMEOUT_MS), "flush");
    }

    work_for(work, in_flight, (Quota){.us = WARM_UP_US});
    double cpu_before = cpu_us(), wall_before = wall_us();
    uint64_t messages = work_for(work, in_flight, length);
    double cpu = cpu_us() - cpu_before, wall = wall_us() - wall_before;

    printf("{\"messages\":%" PRIu64 ",\"cpu_us\":%.3f,\"wall_us\":%.3f,\"round_trip_p50_us\":", messages, cpu, wall);
    if (round_trips_count == 0)
        printf("null");
    else
    {
        qsort(round_trips, round_trips_count, sizeof *round_trips, compare);
        size_t upper = round_trips_count / 2;
        printf("%.3f", round_trips_count % 2 == 1 ? round_trips[upper]
                                                  : (round_trips[upper - 1] + round_trips[upper]) / 2);
    }
    printf(",\"account\":{");
    print_tally("swallowed", &swallowed, ",");
    print_tally("flooded", &flooded, ",");
    print_tally("echoed", &echoed, "}}\n");
    return 0;
}
