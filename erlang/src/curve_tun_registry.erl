%%% @doc What a registry is: it says which public key may come in from where.
%%%
%%% It is asked last, about a client that has proven that it holds the key's secret, from a process of its own for
%%% each client. A registry that crashes, hangs or answers anything else refuses that one client.
%%%
%%% Name your module in the application's environment (`registry_providers', the first is used) or with the option
%%% `{registry, Module}' of a listener. One with `start_link/0' that is named in the environment is supervised by the
%%% application.
%%% @end
-module(curve_tun_registry).

-callback verify(gen_tcp:socket(), curve_tun:public_key()) -> boolean().
%% Whether the holder of the key may come in over this socket. `inet:peername/1' says where it comes from.

-callback lookup(inet:ip_address()) -> {ok, curve_tun:public_key()} | {error, not_found | term()}.
%% The key that may come in from an address.

-callback register(curve_tun_nif:place(), curve_tun:public_key()) -> ok | {error, term()}.
%% Lets the holder of the key in from an address.

-callback handle() -> {ok, curve_tun_nif:registry()} | {error, atom()}.
%% Only for registries that live in the NIF: connections use them there.

-optional_callbacks([handle/0, lookup/1, register/2]).
