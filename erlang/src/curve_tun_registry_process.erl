%%% @private
%%% The process of a registry that lives in the NIF. It is registered under the name of the registry's module; the registry
%%% outlives it, so that it comes back with the same entries.
-module(curve_tun_registry_process).
-behaviour(gen_server).

-export([start_link/2, handle/1, with_registry/2, lookup/2, verify/3, server_keys/3]).
-export([init/1, handle_call/3, handle_cast/2]).

-type make() :: fun(() -> {ok, curve_tun_nif:registry()} | {error, term()}).

-spec start_link(module(), make()) -> {ok, pid()} | {error, term()}.
start_link(Module, Make) ->
    case gen_server:start_link({local, Module}, ?MODULE, {Module, Make}, []) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason};
        ignore -> {error, ignore}
    end.

-spec handle(module()) -> {ok, curve_tun_nif:registry()} | {error, registry_failed}.
handle(Module) ->
    case curve_tun_keep:find(Module) of
        {ok, Registry} -> {ok, Registry};
        error -> {error, registry_failed}
    end.

-spec with_registry(module(), fun((curve_tun_nif:registry()) -> Result)) -> Result | {error, badarg | registry_failed}.
with_registry(Module, Do) ->
    case handle(Module) of
        {ok, Registry} ->
            try Do(Registry)
            catch error:badarg -> {error, badarg}
            end;
        {error, Reason} ->
            {error, Reason}
    end.

%% The least key that may come in from an address.
-spec lookup(module(), inet:ip_address()) -> {ok, curve_tun:public_key()} | {error, atom()}.
lookup(Module, Address) ->
    case ask(Module, fun(Registry, Ref) -> curve_tun_nif:registry_lookup(Registry, Address, Ref) end) of
        {ok, []} -> {error, not_found};
        {ok, Keys} -> {ok, lists:min(Keys)};
        {error, Reason} -> {error, Reason}
    end.

%% A registry that cannot tell lets nobody in.
-spec verify(module(), gen_tcp:socket() | inet:ip_address(), curve_tun:public_key()) -> boolean().
verify(Module, Address, Key) when is_tuple(Address), tuple_size(Address) =:= 4; tuple_size(Address) =:= 8 ->
    {ok, true} =:= ask(Module, fun(Registry, Ref) -> curve_tun_nif:registry_verify(Registry, Address, Key, Ref) end);
verify(Module, Socket, Key) ->
    case inet:peername(Socket) of
        {ok, {Address, _Port}} -> verify(Module, Address, Key);
        {error, _} -> false
    end.

-spec server_keys(module(), binary(), inet:port_number()) -> {ok, [curve_tun:public_key(), ...]} | {error, atom()}.
server_keys(Module, Host, Port) ->
    ask(Module, fun(Registry, Ref) -> curve_tun_nif:registry_server_keys(Registry, Host, Port, Ref) end).

%% What the registry says, at once or later. It always says something, also when it ends.
-spec ask(module(), fun((curve_tun_nif:registry(), reference()) -> {ok, Value} | {error, atom()} | later)) ->
          {ok, Value} | {error, atom()}.
ask(Module, Ask) ->
    Ref = make_ref(),
    case with_registry(Module, fun(Registry) -> Ask(Registry, Ref) end) of
        later -> receive {Ref, Answer} -> Answer end;
        Answer -> Answer
    end.

-spec init({module(), make()}) -> {ok, curve_tun_nif:registry()} | {stop, term()}.
init({Module, Make}) ->
    case curve_tun_keep:get_or_make(Module, Make) of
        {ok, Registry} -> {ok, Registry};
        {error, Reason} -> {stop, Reason}
    end.

-spec handle_call(term(), gen_server:from(), State) -> {reply, term(), State}.
handle_call(_Call, _From, State) ->
    {reply, {error, badarg}, State}.

-spec handle_cast(term(), State) -> {noreply, State}.
handle_cast(_Cast, State) ->
    {noreply, State}.
