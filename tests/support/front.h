/* What the PKCS#11 modules of the tests share. Each stands in front of another (MODULE), and hands on all of its functions
 * but those that it replaces. */

#ifndef FRONT_H
#define FRONT_H

#include <dlfcn.h>
#include <string.h>

typedef unsigned long CK_ULONG;
typedef CK_ULONG CK_RV;

#define CKR_OK 0x00UL
#define CKR_GENERAL_ERROR 0x05UL

/* Functions of PKCS#11 2.40 by their place in CK_FUNCTION_LIST. */
enum {
    INITIALIZE = 0,
    GET_FUNCTION_LIST = 3,
    GET_SLOT_LIST = 4,
    GET_MECHANISM_LIST = 7,
    GET_MECHANISM_INFO = 8,
    OPEN_SESSION = 12,
    CLOSE_ALL_SESSIONS = 14,
    LOGIN = 18,
    CREATE_OBJECT = 20,
    DESTROY_OBJECT = 22,
    GET_ATTRIBUTE_VALUE = 24,
    FIND_OBJECTS_INIT = 26,
    GENERATE_KEY_PAIR = 59,
    DERIVE_KEY = 62,
    FUNCTIONS = 68
};

typedef void any_function(void);

struct list {
    unsigned char version[2];
    any_function *function[FUNCTIONS];
};

static struct list ours;
static const struct list *theirs;

CK_RV C_GetFunctionList(struct list **list);

/* Begins our table as a copy of theirs. */
static CK_RV copy_list(void)
{
    void *module = dlopen(MODULE, RTLD_NOW);
    CK_RV (*get)(const struct list **) = NULL;

    if (module != NULL)
        *(void **)&get = dlsym(module, "C_GetFunctionList");
    if (get == NULL || get(&theirs) != CKR_OK)
        return CKR_GENERAL_ERROR;
    memcpy(&ours, theirs, sizeof ours);
    ours.function[GET_FUNCTION_LIST] = (any_function *)C_GetFunctionList;
    return CKR_OK;
}

#endif
