#define _POSIX_C_SOURCE 200809L

#include "answers.h"

#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How many questions of a loop are put to the vault at once. */
#define THREADS 4

struct answers {
    const curve_tun_vault *vault;
    pthread_t threads[THREADS];
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct question *waiting;       /* In the order of their turns. */
    struct question *put[THREADS];  /* With the vault. */
    struct question *answered, **last_answered;
    uint64_t turn;                  /* The turn of the question that was put last. */
    bool ending;
    /* The pipe holds a byte while there may be answers. */
    int bell[2];
};

static bool same(const struct source *a, const struct source *b)
{
    return a->ipv6 == b->ipv6 && memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

/* Each source has one question in each turn: a new question gets the present turn, or the one after
 * its source's last. */
static void wait_for_turn(struct answers *answers, struct question *question)
{
    struct question **place;

    question->turn = answers->turn;
    for (place = &answers->waiting; *place != NULL; place = &(*place)->next)
        if (same(&(*place)->source, &question->source))
            question->turn = (*place)->turn + 1;
    for (place = &answers->waiting; *place != NULL && (*place)->turn <= question->turn;)
        place = &(*place)->next;
    question->next = *place;
    *place = question;
}

/* Whether half of the threads are busy with abandoned questions of this source. A call cannot be
 * taken back, so this keeps the other half for other sources. */
static bool has_its_share(const struct answers *answers, const struct source *source)
{
    int i, abandoned = 0;

    for (i = 0; i < THREADS; i++)
        if (answers->put[i] != NULL && answers->put[i]->asker == NULL && same(&answers->put[i]->source, source))
            abandoned++;
    return abandoned >= THREADS / 2;
}

/* Takes the question whose turn it is. NULL if there is none. */
static struct question *take_waiting(struct answers *answers)
{
    struct question **place = &answers->waiting, *question;

    while (*place != NULL && has_its_share(answers, &(*place)->source))
        place = &(*place)->next;
    question = *place;
    if (question != NULL) {
        *place = question->next;
        answers->turn = question->turn > answers->turn ? question->turn : answers->turn;
    }
    return question;
}

static void give_back(struct answers *answers, struct question *question)
{
    if (question->asker == NULL) {
        free(question);
        return;
    }
    question->next = NULL;
    *answers->last_answered = question;
    answers->last_answered = &question->next;
    /* A full pipe wakes the reader, too. */
    if (write(answers->bell[1], "", 1) < 0 && errno != EAGAIN)
        fail("pipe", strerror(errno));
}

static void *answer_questions(void *argument)
{
    struct answers *answers = argument;
    struct question *question, **put;

    pthread_mutex_lock(&answers->mutex);
    while (!answers->ending) {
        question = take_waiting(answers);
        if (question == NULL) {
            pthread_cond_wait(&answers->changed, &answers->mutex);
            continue;
        }
        for (put = answers->put; *put != NULL;)
            put++;
        *put = question;
        pthread_mutex_unlock(&answers->mutex);
        check("vault", curve_tun_vault_answer(answers->vault, &question->request, &question->answer));
        pthread_mutex_lock(&answers->mutex);
        *put = NULL;
        give_back(answers, question);
        /* Its source may have a turn again. */
        pthread_cond_broadcast(&answers->changed);
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
    answers->last_answered = &answers->answered;
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

bool answers_ask(struct answers *answers, curve_tun_connection *connection, void *asker, struct source source,
                 struct question **question)
{
    curve_tun_request request = CURVE_TUN_REQUEST_INIT;
    struct question *made;

    if (curve_tun_connection_request(connection, &request) != CURVE_TUN_OK)
        return true;
    made = malloc(sizeof *made);
    if (made == NULL)
        return false;
    made->request = request;
    made->answer.size = sizeof made->answer;
    made->asker = asker;
    made->source = source;
    pthread_mutex_lock(&answers->mutex);
    wait_for_turn(answers, made);
    pthread_cond_signal(&answers->changed);
    pthread_mutex_unlock(&answers->mutex);
    *question = made;
    return true;
}

/* Removes a question from a list. False if it is not there. */
static bool unlink_from(struct question **list, struct question *question)
{
    while (*list != NULL && *list != question)
        list = &(*list)->next;
    if (*list == NULL)
        return false;
    *list = question->next;
    return true;
}

void answers_drop(struct answers *answers, struct question *question)
{
    pthread_mutex_lock(&answers->mutex);
    question->asker = NULL;
    if (unlink_from(&answers->waiting, question)) {
        free(question);
    } else if (unlink_from(&answers->answered, question)) {
        free(question);
        for (answers->last_answered = &answers->answered; *answers->last_answered != NULL;)
            answers->last_answered = &(*answers->last_answered)->next;
    }
    pthread_mutex_unlock(&answers->mutex);
}

struct question *answers_take(struct answers *answers)
{
    struct question *question;
    char bytes[64];

    pthread_mutex_lock(&answers->mutex);
    question = answers->answered;
    if (question != NULL) {
        answers->answered = question->next;
        if (answers->answered == NULL)
            answers->last_answered = &answers->answered;
    } else {
        while (read(answers->bell[0], bytes, sizeof bytes) > 0)
            ;
    }
    pthread_mutex_unlock(&answers->mutex);
    return question;
}

void answers_end(struct answers *answers)
{
    int i;

    pthread_mutex_lock(&answers->mutex);
    answers->ending = true;
    pthread_cond_broadcast(&answers->changed);
    pthread_mutex_unlock(&answers->mutex);
    for (i = 0; i < THREADS; i++)
        pthread_join(answers->threads[i], NULL);
    pthread_cond_destroy(&answers->changed);
    pthread_mutex_destroy(&answers->mutex);
    close(answers->bell[0]);
    close(answers->bell[1]);
    free(answers);
}
