%%% @private
%%% The calls of a registry that lives in the NIF, under the name of its module;
%%% `curve_tun_provider_server' is its process.
-module(curve_tun_native_registry).

-export([handle/1, with_registry/2, lookup/2, verify/3, server_keys/3]).

-type failure() :: {error, registry_failed | {not_started, curve_tun}}.

-spec handle(module()) -> {ok, curve_tun_nif:registry()} | failure().
handle(Module) ->
    case {curve_tun_handles:find(Module), curve_tun_app:check()} of
        {{ok, Registry}, ok} -> {ok, Registry};
        {error, ok} -> {error, registry_failed};
        {_, {error, Reason}} -> {error, Reason}
    end.

-spec with_registry(module(), fun((curve_tun_nif:registry()) -> Result)) -> Result | {error, badarg} | failure().
with_registry(Module, Do) ->
    case handle(Module) of
        {ok, Registry} ->
            try Do(Registry)
            catch error:badarg -> {error, badarg}
            end;
        {error, Reason} ->
            {error, Reason}
    end.

%% Returns the smallest key that may come in from an address.
-spec lookup(module(), inet:ip_address()) -> {ok, curve_tun:public_key()} | {error, atom()} | failure().
lookup(Module, Address) ->
    case ask(Module, fun(Registry, Ref) -> curve_tun_nif:registry_lookup(Registry, Address, Ref) end) of
        {ok, []} -> {error, not_found};
        {ok, Keys} -> {ok, lists:min(Keys)};
        {error, Reason} -> {error, Reason}
    end.

%% A registry that cannot decide lets nobody in.
-spec verify(module(), gen_tcp:socket() | inet:ip_address(), curve_tun:public_key()) -> boolean().
verify(Module, Address, Key) when is_tuple(Address), tuple_size(Address) =:= 4; tuple_size(Address) =:= 8 ->
    {ok, true} =:= ask(Module, fun(Registry, Ref) -> curve_tun_nif:registry_verify(Registry, Address, Key, Ref) end);
verify(Module, Socket, Key) ->
    try inet:peername(Socket) of
        {ok, {Address, Port}} when is_integer(Port) -> verify(Module, Address, Key);
        _ -> false
    catch
        _:_ -> false
    end.

-spec server_keys(module(), binary(), inet:port_number()) ->
          {ok, [curve_tun:public_key(), ...]} | {error, atom()} | failure().
server_keys(Module, Host, Port) ->
    ask(Module, fun(Registry, Ref) -> curve_tun_nif:registry_server_keys(Registry, Host, Port, Ref) end).

%% Asks the registry, which answers at once or later. It always answers, even if it ends.
-spec ask(module(), fun((curve_tun_nif:registry(), reference()) -> {ok, Value} | {error, atom()} | later)) ->
          {ok, Value} | {error, atom()} | failure().
ask(Module, Ask) ->
    Ref = make_ref(),
    case with_registry(Module, fun(Registry) -> Ask(Registry, Ref) end) of
        later -> receive {Ref, Answer} -> Answer end;
        Answer -> Answer
    end.
