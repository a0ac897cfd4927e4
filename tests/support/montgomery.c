/*
 * A PKCS#11 module in front of SoftHSM (MODULE), which has X25519 as keys of type Edwards. This one has them as newer modules
 * do, of type Montgomery: in templates, in searches, in attributes and in its mechanisms. What speaks of Edwards it
 * refuses; all keys in its tokens are for X25519.
 *
 * Built with POINT_BYTES 32 it takes the point of a peer as it is alone, with 34 as a DER octet string alone.
 */

#include "front.h"

#include <stdbool.h>
#include <stdlib.h>

#define CKR_HOST_MEMORY 0x02UL
#define CKR_ATTRIBUTE_VALUE_INVALID 0x13UL
#define CKR_MECHANISM_INVALID 0x70UL
#define CKR_MECHANISM_PARAM_INVALID 0x71UL

#define CKA_KEY_TYPE 0x100UL
#define CKA_KEY_GEN_MECHANISM 0x166UL
#define CKK_EC_EDWARDS 0x40UL
#define CKK_EC_MONTGOMERY 0x41UL
#define CKM_ECDH1_DERIVE 0x1050UL
#define CKM_EC_EDWARDS_KEY_PAIR_GEN 0x1055UL
#define CKM_EC_MONTGOMERY_KEY_PAIR_GEN 0x1056UL

/* No key has it. */
#define NO_KEY_TYPE 0x80000000UL

struct attribute {
    CK_ULONG type;
    void *value;
    CK_ULONG len;
};

struct mechanism {
    CK_ULONG type;
    void *parameter;
    CK_ULONG len;
};

struct ecdh_parameters {
    CK_ULONG kdf, shared_len;
    unsigned char *shared;
    CK_ULONG point_len;
    unsigned char *point;
};

typedef CK_RV get_mechanism_list_function(CK_ULONG, CK_ULONG *, CK_ULONG *);
typedef CK_RV get_mechanism_info_function(CK_ULONG, CK_ULONG, void *);
typedef CK_RV create_object_function(CK_ULONG, struct attribute *, CK_ULONG, CK_ULONG *);
typedef CK_RV get_attribute_value_function(CK_ULONG, CK_ULONG, struct attribute *, CK_ULONG);
typedef CK_RV find_objects_init_function(CK_ULONG, struct attribute *, CK_ULONG);
typedef CK_RV generate_key_pair_function(CK_ULONG, struct mechanism *, struct attribute *, CK_ULONG, struct attribute *,
                                         CK_ULONG, CK_ULONG *, CK_ULONG *);
typedef CK_RV derive_key_function(CK_ULONG, struct mechanism *, CK_ULONG, struct attribute *, CK_ULONG, CK_ULONG *);

static CK_RV get_mechanism_list(CK_ULONG slot, CK_ULONG *list, CK_ULONG *count)
{
    get_mechanism_list_function *next = (get_mechanism_list_function *)theirs->function[GET_MECHANISM_LIST];
    CK_RV got = next(slot, list, count);
    CK_ULONG i;

    for (i = 0; got == CKR_OK && list != NULL && i < *count; i++)
        if (list[i] == CKM_EC_EDWARDS_KEY_PAIR_GEN)
            list[i] = CKM_EC_MONTGOMERY_KEY_PAIR_GEN;
    return got;
}

/* The mechanism of SoftHSM for one of ours. */
static CK_ULONG their_mechanism(CK_ULONG ours_is)
{
    switch (ours_is) {
    case CKM_EC_MONTGOMERY_KEY_PAIR_GEN:
        return CKM_EC_EDWARDS_KEY_PAIR_GEN;
    case CKM_EC_EDWARDS_KEY_PAIR_GEN:
        return ~0UL;
    default:
        return ours_is;
    }
}

static CK_RV get_mechanism_info(CK_ULONG slot, CK_ULONG type, void *info)
{
    get_mechanism_info_function *next = (get_mechanism_info_function *)theirs->function[GET_MECHANISM_INFO];

    return next(slot, their_mechanism(type), info);
}

/* A copy of a template in which our key type is theirs, and theirs is none; to be freed. */
static struct attribute *translated(const struct attribute *template, CK_ULONG count, bool *edwards)
{
    static CK_ULONG their_type = CKK_EC_EDWARDS, no_type = NO_KEY_TYPE;
    struct attribute *copy = calloc(count + 1, sizeof *copy);
    CK_ULONG i, type;

    for (i = 0; copy != NULL && i < count; i++) {
        copy[i] = template[i];
        if (template[i].type != CKA_KEY_TYPE || template[i].len != sizeof type)
            continue;
        memcpy(&type, template[i].value, sizeof type);
        if (type == CKK_EC_MONTGOMERY)
            copy[i].value = &their_type;
        if (type == CKK_EC_EDWARDS) {
            copy[i].value = &no_type;
            *edwards = true;
        }
    }
    return copy;
}

static CK_RV create_object(CK_ULONG session, struct attribute *template, CK_ULONG count, CK_ULONG *object)
{
    create_object_function *next = (create_object_function *)theirs->function[CREATE_OBJECT];
    bool edwards = false;
    struct attribute *copy = translated(template, count, &edwards);
    CK_RV made = CKR_HOST_MEMORY;

    if (copy != NULL)
        made = edwards ? CKR_ATTRIBUTE_VALUE_INVALID : next(session, copy, count, object);
    free(copy);
    return made;
}

static CK_RV find_objects_init(CK_ULONG session, struct attribute *template, CK_ULONG count)
{
    find_objects_init_function *next = (find_objects_init_function *)theirs->function[FIND_OBJECTS_INIT];
    bool edwards = false;
    struct attribute *copy = translated(template, count, &edwards);
    CK_RV begun = copy == NULL ? CKR_HOST_MEMORY : next(session, copy, count);

    free(copy);
    return begun;
}

static CK_RV generate_key_pair(CK_ULONG session, struct mechanism *mechanism, struct attribute *public_template,
                               CK_ULONG public_count, struct attribute *private_template, CK_ULONG private_count,
                               CK_ULONG *public_key, CK_ULONG *private_key)
{
    generate_key_pair_function *next = (generate_key_pair_function *)theirs->function[GENERATE_KEY_PAIR];
    struct mechanism theirs_is = *mechanism;
    bool edwards = mechanism->type == CKM_EC_EDWARDS_KEY_PAIR_GEN;
    struct attribute *public_copy = translated(public_template, public_count, &edwards);
    struct attribute *private_copy = translated(private_template, private_count, &edwards);
    CK_RV made = CKR_HOST_MEMORY;

    theirs_is.type = their_mechanism(mechanism->type);
    if (public_copy != NULL && private_copy != NULL)
        made = edwards ? CKR_MECHANISM_INVALID : next(session, &theirs_is, public_copy, public_count, private_copy,
                                                      private_count, public_key, private_key);
    free(public_copy);
    free(private_copy);
    return made;
}

static CK_RV get_attribute_value(CK_ULONG session, CK_ULONG object, struct attribute *template, CK_ULONG count)
{
    get_attribute_value_function *next = (get_attribute_value_function *)theirs->function[GET_ATTRIBUTE_VALUE];
    static const CK_ULONG our_type = CKK_EC_MONTGOMERY, our_mechanism = CKM_EC_MONTGOMERY_KEY_PAIR_GEN;
    CK_RV got = next(session, object, template, count);
    CK_ULONG i, value;

    for (i = 0; i < count; i++) {
        if (template[i].value == NULL || template[i].len != sizeof value)
            continue;
        memcpy(&value, template[i].value, sizeof value);
        if (template[i].type == CKA_KEY_TYPE && value == CKK_EC_EDWARDS)
            memcpy(template[i].value, &our_type, sizeof our_type);
        if (template[i].type == CKA_KEY_GEN_MECHANISM && value == CKM_EC_EDWARDS_KEY_PAIR_GEN)
            memcpy(template[i].value, &our_mechanism, sizeof our_mechanism);
    }
    return got;
}

static CK_RV derive_key(CK_ULONG session, struct mechanism *mechanism, CK_ULONG key, struct attribute *template,
                        CK_ULONG count, CK_ULONG *derived)
{
    derive_key_function *next = (derive_key_function *)theirs->function[DERIVE_KEY];
    const struct ecdh_parameters *ecdh = mechanism->parameter;

    if (mechanism->type == CKM_ECDH1_DERIVE && ecdh->point_len != POINT_BYTES)
        return CKR_MECHANISM_PARAM_INVALID;
    return next(session, mechanism, key, template, count, derived);
}

CK_RV C_GetFunctionList(struct list **list)
{
    CK_RV copied = copy_list();

    if (copied != CKR_OK)
        return copied;
    ours.function[GET_MECHANISM_LIST] = (any_function *)get_mechanism_list;
    ours.function[GET_MECHANISM_INFO] = (any_function *)get_mechanism_info;
    ours.function[CREATE_OBJECT] = (any_function *)create_object;
    ours.function[GET_ATTRIBUTE_VALUE] = (any_function *)get_attribute_value;
    ours.function[FIND_OBJECTS_INIT] = (any_function *)find_objects_init;
    ours.function[GENERATE_KEY_PAIR] = (any_function *)generate_key_pair;
    ours.function[DERIVE_KEY] = (any_function *)derive_key;
    *list = &ours;
    return CKR_OK;
}
