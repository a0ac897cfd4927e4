/* A PKCS#11 module in front of another (MODULE), which agrees nothing while the file NO_DERIVE exists, removes nothing
 * while NO_DESTROY does, and while NO_PAIR does makes a pair of keys and says that it did not. */

#include "front.h"

#include <unistd.h>

typedef CK_RV destroy_object_function(CK_ULONG, CK_ULONG);
typedef CK_RV generate_key_pair_function(CK_ULONG, void *, void *, CK_ULONG, void *, CK_ULONG, CK_ULONG *, CK_ULONG *);
typedef CK_RV derive_key_function(CK_ULONG, void *, CK_ULONG, void *, CK_ULONG, CK_ULONG *);

static CK_RV destroy_object(CK_ULONG session, CK_ULONG object)
{
    destroy_object_function *next = (destroy_object_function *)theirs->function[DESTROY_OBJECT];

    return access(NO_DESTROY, F_OK) == 0 ? CKR_GENERAL_ERROR : next(session, object);
}

static CK_RV derive_key(CK_ULONG session, void *mechanism, CK_ULONG key, void *template, CK_ULONG count,
                        CK_ULONG *derived)
{
    derive_key_function *next = (derive_key_function *)theirs->function[DERIVE_KEY];

    if (access(NO_DERIVE, F_OK) == 0)
        return CKR_GENERAL_ERROR;
    return next(session, mechanism, key, template, count, derived);
}

static CK_RV generate_key_pair(CK_ULONG session, void *mechanism, void *public, CK_ULONG public_count, void *private,
                               CK_ULONG private_count, CK_ULONG *public_key, CK_ULONG *private_key)
{
    generate_key_pair_function *next = (generate_key_pair_function *)theirs->function[GENERATE_KEY_PAIR];
    CK_RV made = next(session, mechanism, public, public_count, private, private_count, public_key, private_key);

    return access(NO_PAIR, F_OK) == 0 ? CKR_GENERAL_ERROR : made;
}

CK_RV C_GetFunctionList(struct list **list)
{
    CK_RV copied = copy_list();

    if (copied != CKR_OK)
        return copied;
    ours.function[DESTROY_OBJECT] = (any_function *)destroy_object;
    ours.function[GENERATE_KEY_PAIR] = (any_function *)generate_key_pair;
    ours.function[DERIVE_KEY] = (any_function *)derive_key;
    *list = &ours;
    return CKR_OK;
}
