/* A PKCS#11 module in front of another (MODULE) that makes a thread of its own as it is loaded, as some do. */

#include "front.h"

#include <pthread.h>
#include <unistd.h>

static void *sit(void *nothing)
{
    (void)nothing;
    for (;;)
        pause();
    return NULL;
}

CK_RV C_GetFunctionList(struct list **list)
{
    CK_RV copied = copy_list();
    pthread_t thread;

    if (copied != CKR_OK)
        return copied;
    if (pthread_create(&thread, NULL, sit, NULL) != 0)
        return CKR_GENERAL_ERROR;
    *list = &ours;
    return CKR_OK;
}
