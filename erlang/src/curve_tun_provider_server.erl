%%% @private
%%% The process of a vault or registry that lives in the NIF, registered under the name of the
%%% provider's module. The objects it makes outlive it (see `curve_tun_handles'), so that it comes
%%% back with the same key or entries.
-module(curve_tun_provider_server).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start_link/1, again/1]).
-export([init/1, handle_call/3, handle_cast/2, code_change/3]).

-callback open() -> {ok, curve_tun_nif:vault() | curve_tun_nif:registry()} | {error, term()}.

-spec start_link(module()) -> {ok, pid()} | {error, term()}.
start_link(Module) ->
    case gen_server:start_link({local, Module}, ?MODULE, Module, []) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason};
        ignore -> {error, ignore}
    end.

%% Has a vault or registry opened again after its NIF was unloaded.
-spec again(module()) -> {ok, curve_tun_nif:vault() | curve_tun_nif:registry()} | error.
again(Module) ->
    try gen_server:call(Module, again, infinity)
    catch exit:_ -> error
    end.

-spec init(module()) -> {ok, module()} | {stop, term()}.
init(Module) ->
    case curve_tun_handles:get_or_make(Module, fun Module:open/0) of
        {ok, _} -> {ok, Module};
        {error, Reason} -> {stop, Reason}
    end.

-spec handle_call(term(), gen_server:from(), module()) -> {reply, {ok, term()} | error | {error, badarg}, module()}.
handle_call(again, _From, Module) ->
    {reply, reopened(Module), Module};
handle_call(_Call, _From, Module) ->
    {reply, {error, badarg}, Module}.

%% Makes the holders of objects of the other NIF release them, since a vault can be open only once
%% at a time.
-spec reopened(module()) -> {ok, curve_tun_nif:vault() | curve_tun_nif:registry()} | error.
reopened(Module) ->
    _ = [curve_tun_request:reloaded(Pid) || Pid <- curve_tun_connection_sup:children()],
    _ = [gen_server:cast(Pid, reloaded) || Pid <- curve_tun_listener_sup:children()],
    case curve_tun_handles:get_or_make(Module, fun Module:open/0) of
        {ok, Opened} ->
            {ok, Opened};
        {error, Reason} ->
            ?LOG_ERROR("~ts could not be opened again after curve_tun_nif was reloaded: ~tp", [Module, Reason],
                       #{domain => [curve_tun], reason => Reason}),
            error
    end.

-spec handle_cast(term(), module()) -> {noreply, module()}.
handle_cast(_Cast, Module) ->
    {noreply, Module}.

-spec code_change(term(), module(), term()) -> {ok, module()}.
code_change(_OldVsn, Module, _Extra) ->
    {ok, Module}.
