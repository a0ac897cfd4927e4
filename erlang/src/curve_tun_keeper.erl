%%% @private
%%% The process of a vault or registry that lives in the NIF. It is registered under the name of the provider's module. What
%%% it has made outlives it (see `curve_tun_keep'), so that it comes back with the same key or entries.
-module(curve_tun_keeper).
-behaviour(gen_server).

-export([start_link/2]).
-export([init/1, handle_call/3, handle_cast/2]).

-type make() :: fun(() -> {ok, curve_tun_nif:vault() | curve_tun_nif:registry()} | {error, term()}).

-spec start_link(module(), make()) -> {ok, pid()} | {error, term()}.
start_link(Module, Make) ->
    case gen_server:start_link({local, Module}, ?MODULE, {Module, Make}, []) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason};
        ignore -> {error, ignore}
    end.

-spec init({module(), make()}) -> {ok, none} | {stop, term()}.
init({Module, Make}) ->
    case curve_tun_keep:get_or_make(Module, Make) of
        {ok, _} -> {ok, none};
        {error, Reason} -> {stop, Reason}
    end.

-spec handle_call(term(), gen_server:from(), none) -> {reply, {error, badarg}, none}.
handle_call(_Call, _From, none) ->
    {reply, {error, badarg}, none}.

-spec handle_cast(term(), none) -> {noreply, none}.
handle_cast(_Cast, none) ->
    {noreply, none}.
