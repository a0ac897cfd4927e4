/* A PKCS#11 module in front of another (MODULE), whose token is away while the file AWAY exists, and whose PIN is wrong
 * while the file WRONG_PIN exists and locked while LOCKED does; each login adds a byte to the file LOGINS. With FORGETFUL
 * defined it finds a token that was away only when it is initialised anew, which adds a byte to the file STARTS. */

#include "front.h"

#include <stdio.h>
#include <unistd.h>

#define CKR_DEVICE_REMOVED 0x32UL
#define CKR_PIN_INCORRECT 0xA0UL
#define CKR_PIN_LOCKED 0xA4UL
#define CKR_TOKEN_NOT_PRESENT 0xE0UL

typedef CK_RV initialize_function(void *);
typedef CK_RV get_slot_list_function(unsigned char, CK_ULONG *, CK_ULONG *);
typedef CK_RV open_session_function(CK_ULONG, CK_ULONG, void *, void *, CK_ULONG *);
typedef CK_RV close_all_function(CK_ULONG);
typedef CK_RV login_function(CK_ULONG, CK_ULONG, unsigned char *, CK_ULONG);
typedef CK_RV derive_key_function(CK_ULONG, void *, CK_ULONG, void *, CK_ULONG, CK_ULONG *);

static CK_ULONG last_slot;
static int forgotten;

static int there(const char *file)
{
    return access(file, F_OK) == 0;
}

static int away(void)
{
#ifdef FORGETFUL
    if (there(AWAY))
        forgotten = 1;
#endif
    return there(AWAY) || forgotten;
}

static void count(const char *file)
{
    FILE *counted = fopen(file, "a");

    if (counted != NULL) {
        fputc('+', counted);
        fclose(counted);
    }
}

static CK_RV initialize(void *arguments)
{
    initialize_function *next = (initialize_function *)theirs->function[INITIALIZE];

    forgotten = 0;
    count(STARTS);
    return next(arguments);
}

static CK_RV get_slot_list(unsigned char present, CK_ULONG *slots, CK_ULONG *count)
{
    get_slot_list_function *next = (get_slot_list_function *)theirs->function[GET_SLOT_LIST];

    if (away()) {
        *count = 0;
        return CKR_OK;
    }
    return next(present, slots, count);
}

static CK_RV open_session(CK_ULONG slot, CK_ULONG flags, void *application, void *notify, CK_ULONG *session)
{
    open_session_function *next = (open_session_function *)theirs->function[OPEN_SESSION];

    last_slot = slot;
    return away() ? CKR_TOKEN_NOT_PRESENT : next(slot, flags, application, notify, session);
}

static CK_RV login(CK_ULONG session, CK_ULONG user, unsigned char *pin, CK_ULONG length)
{
    login_function *next = (login_function *)theirs->function[LOGIN];

    count(LOGINS);
    if (there(LOCKED))
        return CKR_PIN_LOCKED;
    return there(WRONG_PIN) ? CKR_PIN_INCORRECT : next(session, user, pin, length);
}

static CK_RV derive_key(CK_ULONG session, void *mechanism, CK_ULONG key, void *template, CK_ULONG count,
                        CK_ULONG *derived)
{
    derive_key_function *next = (derive_key_function *)theirs->function[DERIVE_KEY];
    close_all_function *close_all = (close_all_function *)theirs->function[CLOSE_ALL_SESSIONS];

    if (away()) {
        /* With the token go its sessions and its login. */
        close_all(last_slot);
        return CKR_DEVICE_REMOVED;
    }
    return next(session, mechanism, key, template, count, derived);
}

CK_RV C_GetFunctionList(struct list **list)
{
    CK_RV copied = copy_list();

    if (copied != CKR_OK)
        return copied;
    ours.function[INITIALIZE] = (any_function *)initialize;
    ours.function[GET_SLOT_LIST] = (any_function *)get_slot_list;
    ours.function[OPEN_SESSION] = (any_function *)open_session;
    ours.function[LOGIN] = (any_function *)login;
    ours.function[DERIVE_KEY] = (any_function *)derive_key;
    *list = &ours;
    return CKR_OK;
}
