%%% @doc The behaviour of a registry, which says which public key may come in from where, and
%%% optionally which keys servers have.
%%%
%%% It is asked last, about a client that has proven that it holds the secret key, in a separate
%%% process for each client. So it may take its time, up to the deadline of the handshake. A
%%% registry that crashes, hangs or returns anything else refuses that one client.
%%%
%%% Name your module in the application's environment (`registry_providers', the first is used) or
%%% with the option `{registry, Module}' of a listener or a client. A module with `start_link/0'
%%% that is named in the environment is supervised by the application.
%%% @end
-module(curve_tun_registry).

-export_type([candidate/0]).

-type candidate() :: #{address := inet:ip_address(), listener := binary()}.
%% The address of a client, and the name of the listener that it connected to, its option
%% `listener'; empty if it has none.

-callback verify(gen_tcp:socket(), curve_tun:public_key()) -> boolean().
%% Says whether the holder of the key may come in over this socket. `inet:peername/1' returns its
%% address.

-callback verify(gen_tcp:socket(), curve_tun:public_key(), candidate()) -> boolean().
%% The same. A module that exports this one is called by it alone. Later versions may add more about
%% a candidate.

-callback lookup(inet:ip_address()) -> {ok, curve_tun:public_key()} | {error, not_found | term()}.
%% Returns the key that may come in from an address.

-callback register(curve_tun_nif:place(), curve_tun:public_key()) -> ok | {error, term()}.
%% Lets the holder of the key in from an address.

-callback server_keys(Host :: binary(), inet:port_number()) ->
    {ok, [curve_tun:public_key(), ...]} | {error, not_found | enotsup | term()}.
%% Returns the keys that a server may have, in the order in which to try them, for clients that
%% connect without `key'. The host is an address or a name, in lower case and without a final dot.
%% `enotsup' means that this registry does not know servers at all: then the client is told that it
%% has given no key.

-callback max_concurrency() -> pos_integer().
%% Returns how many calls of `verify' the registry works on at once, as in `curve_tun_vault'.

-callback handle() -> {ok, curve_tun_nif:registry()} | {error, term()}.
%% Only for registries that live in the NIF: connections use them there.

-optional_callbacks([max_concurrency/0, handle/0, verify/3, lookup/1, register/2, server_keys/2]).
