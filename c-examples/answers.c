#define _POSIX_C_SOURCE 200809L

#include "answers.h"

#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How many questions are asked at once. */
#define THREADS 4

struct list {
    struct question *first, **end;
};

static const curve_tun_vault *vault;
static pthread_t threads[THREADS];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct list asked, answered;
static bool ending;
/* A byte is in this pipe while there may be answers. */
static int bell[2];

static void put(struct list *list, struct question *question)
{
    question->next = NULL;
    *list->end = question;
    list->end = &question->next;
}

static struct question *take(struct list *list)
{
    struct question *question = list->first;

    if (question != NULL) {
        list->first = question->next;
        if (list->first == NULL)
            list->end = &list->first;
    }
    return question;
}

static void *answer_questions(void *unused)
{
    struct question *question;

    (void)unused;
    pthread_mutex_lock(&mutex);
    while (!ending) {
        question = take(&asked);
        if (question == NULL) {
            pthread_cond_wait(&changed, &mutex);
            continue;
        }
        pthread_mutex_unlock(&mutex);
        check("vault", curve_tun_vault_answer(vault, &question->request, &question->answer));
        pthread_mutex_lock(&mutex);
        put(&answered, question);
        /* A full pipe rings, too. */
        if (write(bell[1], "", 1) < 0 && errno != EAGAIN)
            fail("pipe", strerror(errno));
    }
    pthread_mutex_unlock(&mutex);
    return NULL;
}

int answers_begin(const curve_tun_vault *whose)
{
    int i, error;

    vault = whose;
    asked.end = &asked.first;
    answered.end = &answered.first;
    if (pipe(bell) != 0)
        fail("pipe", strerror(errno));
    for (i = 0; i < 2; i++) {
        fcntl(bell[i], F_SETFL, O_NONBLOCK);
        fcntl(bell[i], F_SETFD, FD_CLOEXEC);
    }
    for (i = 0; i < THREADS; i++) {
        error = pthread_create(&threads[i], NULL, answer_questions, NULL);
        if (error != 0)
            fail("thread", strerror(error));
    }
    return bell[0];
}

bool answers_ask(curve_tun_connection *connection, void *asker, bool *was_asked)
{
    struct question *question;
    curve_tun_request request;

    request.size = sizeof request;
    if (curve_tun_connection_request(connection, &request) != CURVE_TUN_OK)
        return true;
    question = malloc(sizeof *question);
    if (question == NULL)
        return false;
    question->request = request;
    question->answer.size = sizeof question->answer;
    question->asker = asker;
    pthread_mutex_lock(&mutex);
    put(&asked, question);
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&mutex);
    *was_asked = true;
    return true;
}

struct question *answers_take(void)
{
    struct question *question;
    char bytes[64];

    pthread_mutex_lock(&mutex);
    question = take(&answered);
    if (question == NULL)
        while (read(bell[0], bytes, sizeof bytes) > 0)
            ;
    pthread_mutex_unlock(&mutex);
    return question;
}

void answers_end(void)
{
    struct question *question;
    int i;

    pthread_mutex_lock(&mutex);
    ending = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
    for (i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    while ((question = take(&asked)) != NULL) {
        memset(&question->answer, 0, sizeof question->answer);
        question->answer.size = sizeof question->answer;
        question->answer.kind = question->request.kind;
        question->answer.result = CURVE_TUN_ERR_TIMEOUT;
        put(&answered, question);
    }
}
