#define _POSIX_C_SOURCE 200809L

#include "answers.h"

#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How many questions of a loop are asked at once. */
#define THREADS 4

struct list {
    struct question *first, **end;
};

struct answers {
    const curve_tun_vault *vault;
    pthread_t threads[THREADS];
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct list asked, answered;
    bool ending;
    /* A byte is in this pipe while there may be answers. */
    int bell[2];
};

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

static void *answer_questions(void *argument)
{
    struct answers *answers = argument;
    struct question *question;

    pthread_mutex_lock(&answers->mutex);
    while (!answers->ending) {
        question = take(&answers->asked);
        if (question == NULL) {
            pthread_cond_wait(&answers->changed, &answers->mutex);
            continue;
        }
        pthread_mutex_unlock(&answers->mutex);
        check("vault", curve_tun_vault_answer(answers->vault, &question->request, &question->answer));
        pthread_mutex_lock(&answers->mutex);
        put(&answers->answered, question);
        /* A full pipe rings, too. */
        if (write(answers->bell[1], "", 1) < 0 && errno != EAGAIN)
            fail("pipe", strerror(errno));
    }
    pthread_mutex_unlock(&answers->mutex);
    return NULL;
}

struct answers *answers_begin(const curve_tun_vault *vault, int *ready)
{
    struct answers *answers = calloc(1, sizeof *answers);
    int i, error;

    if (answers == NULL || pipe(answers->bell) != 0)
        fail("answers", strerror(errno));
    answers->vault = vault;
    answers->asked.end = &answers->asked.first;
    answers->answered.end = &answers->answered.first;
    pthread_mutex_init(&answers->mutex, NULL);
    pthread_cond_init(&answers->changed, NULL);
    for (i = 0; i < 2; i++) {
        fcntl(answers->bell[i], F_SETFL, O_NONBLOCK);
        fcntl(answers->bell[i], F_SETFD, FD_CLOEXEC);
    }
    for (i = 0; i < THREADS; i++) {
        error = pthread_create(&answers->threads[i], NULL, answer_questions, answers);
        if (error != 0)
            fail("thread", strerror(error));
    }
    *ready = answers->bell[0];
    return answers;
}

bool answers_ask(struct answers *answers, curve_tun_connection *connection, void *asker, bool *asked)
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
    pthread_mutex_lock(&answers->mutex);
    put(&answers->asked, question);
    pthread_cond_signal(&answers->changed);
    pthread_mutex_unlock(&answers->mutex);
    *asked = true;
    return true;
}

struct question *answers_take(struct answers *answers)
{
    struct question *question;
    char bytes[64];

    pthread_mutex_lock(&answers->mutex);
    question = take(&answers->answered);
    if (question == NULL)
        while (read(answers->bell[0], bytes, sizeof bytes) > 0)
            ;
    pthread_mutex_unlock(&answers->mutex);
    return question;
}

void answers_end(struct answers *answers)
{
    struct question *question;
    int i;

    pthread_mutex_lock(&answers->mutex);
    answers->ending = true;
    pthread_cond_broadcast(&answers->changed);
    pthread_mutex_unlock(&answers->mutex);
    for (i = 0; i < THREADS; i++)
        pthread_join(answers->threads[i], NULL);
    while ((question = take(&answers->asked)) != NULL) {
        memset(&question->answer, 0, sizeof question->answer);
        question->answer.size = sizeof question->answer;
        question->answer.kind = question->request.kind;
        question->answer.result = CURVE_TUN_ERR_TIMEOUT;
        put(&answers->answered, question);
    }
}

void answers_free(struct answers *answers)
{
    pthread_cond_destroy(&answers->changed);
    pthread_mutex_destroy(&answers->mutex);
    close(answers->bell[0]);
    close(answers->bell[1]);
    free(answers);
}
