%%% @private
%%% Builds the ends of tunnels: from the providers, their answers, and the objects that the NIF
%%% makes of them.
-module(curve_tun_endpoint).

-export([client/2, server/2, vault/2, server_keys/4]).

-type failure() :: {error, atom() | {no_provider, vault | registry} | curve_tun:option_error()}.

%% Makes a client's end.
-spec client(curve_tun_options:options(), curve_tun_time:deadline()) ->
          {ok, curve_tun_connection:prepared()} | failure().
client(#{key := Key} = Own, Deadline) ->
    case vault(Own, until(Own, Deadline)) of
        {ok, Provider, Vault} -> {ok, #{role => {client, Vault, Key}, providers => #{vault => Provider}, options => Own}};
        {error, Reason} -> {error, Reason}
    end.

%% Makes the server's end for the connections of a listener.
-spec server(curve_tun_options:options(), curve_tun_time:deadline()) ->
          {ok, curve_tun_connection:prepared()} | failure().
server(Own, Deadline) ->
    Until = until(Own, Deadline),
    case {vault(Own, Until), with_provider(registry, Own, fun curve_tun_provider:registry_handle/1, Until)} of
        {{ok, OfVault, Vault}, {ok, OfRegistry, Registry}} ->
            server(Vault, Registry, #{vault => OfVault, registry => OfRegistry}, Own);
        {{error, Reason}, _} ->
            {error, Reason};
        {_, {error, Reason}} ->
            {error, Reason}
    end.

-spec server(curve_tun_nif:vault(), curve_tun_nif:registry(), curve_tun_provider:providers(),
             curve_tun_options:options()) -> {ok, curve_tun_connection:prepared()} | failure().
server(Vault, Registry, Providers, #{handshakes_max := Max, handshakes_per_source := PerSource, listener := Listener} = Own) ->
    OfOne = case PerSource of infinity -> 0; _ -> min(PerSource, Max) end,
    case curve_tun_nif:server_new(Vault, Registry, Max, OfOne, Listener, curve_tun_time:now_ms()) of
        {ok, Server} -> {ok, #{role => {server, Server}, providers => Providers, options => Own}};
        {error, Reason} -> {error, Reason}
    end.

-spec until(curve_tun_options:options(), curve_tun_time:deadline()) -> curve_tun_time:deadline().
until(#{handshake_timeout := Most}, Deadline) ->
    curve_tun_time:earlier(Deadline, curve_tun_time:deadline(Most)).

%% Returns the vault chosen by the options or the environment.
-spec vault(#{vault => module(), _ => _}, curve_tun_time:deadline()) ->
          {ok, curve_tun_provider:provider(), curve_tun_nif:vault()} | failure().
vault(Own, Deadline) ->
    with_provider(vault, Own, fun(Module) -> curve_tun_provider:vault_handle(Module, Deadline) end, Deadline).

%% Returns the keys that a server may have, according to the registry chosen by the options or the
%% environment.
-spec server_keys(curve_tun_options:options(), Host :: binary(), inet:port_number(), curve_tun_time:deadline()) ->
          {ok, [curve_tun:public_key(), ...]} | failure().
server_keys(Own, Host, Port, Deadline) ->
    case curve_tun_provider:chosen(registry, Own) of
        {ok, Module} ->
            Found = curve_tun_provider:server_keys(Module, Host, Port, until(Own, Deadline)),
            unless_it_runs(registry, Module, Found);
        {error, Reason} ->
            {error, Reason}
    end.

-spec with_provider(vault | registry, map(), fun((module()) -> {ok, Handle} | {error, atom()}),
                    curve_tun_time:deadline()) -> {ok, curve_tun_provider:provider(), Handle} | failure().
with_provider(Kind, Own, Handle, Deadline) ->
    case curve_tun_provider:chosen(Kind, Own) of
        {ok, Module} -> handled(Kind, Module, Handle(Module), Deadline);
        {error, Reason} -> {error, Reason}
    end.

-spec handled(vault | registry, module(), {ok, Handle} | {error, atom()}, curve_tun_time:deadline()) ->
          {ok, curve_tun_provider:provider(), Handle} | failure().
handled(Kind, Module, {ok, Found}, Deadline) ->
    case curve_tun_provider:max_concurrency(Kind, Module, Deadline) of
        {ok, AtOnce} -> {ok, {Module, AtOnce}, Found};
        {error, Reason} -> {error, Reason}
    end;
handled(Kind, Module, {error, Reason}, _Deadline) ->
    unless_it_runs(Kind, Module, {error, Reason}).

%% Names a vault or registry that failed because it has no process: a native one has a process only
%% if the environment names it.
-spec unless_it_runs(vault | registry, module(), {ok, Value} | failure()) -> {ok, Value} | failure().
unless_it_runs(Kind, Module, {error, Reason}) when Reason =:= vault_failed; Reason =:= registry_failed ->
    Configured = curve_tun_provider:configured(case Kind of vault -> vault_providers; registry -> registry_providers end),
    case curve_tun_provider:exports(Module, open, 0) andalso not lists:member(Module, Configured) of
        true -> {error, {bad_option, {Kind, Module}}};
        false -> {error, Reason}
    end;
unless_it_runs(_Kind, _Module, Result) ->
    Result.
