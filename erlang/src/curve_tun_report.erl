%%% @private
%%% What logs and crash reports may show of a connection: no message, and nothing that is on its way.
-module(curve_tun_report).

-include_lib("kernel/include/logger.hrl").

-export([reason/1, stack/1, status/2, closed/3, not_remembered/2]).

-type stack() :: [{module(), atom(), arity() | [term()], [term()]}].

%% A failure's reason without the values in it: they can hold messages.
-spec reason(term()) -> atom().
reason(Reason) when is_atom(Reason) -> Reason;
reason(Reason) when is_tuple(Reason), is_atom(element(1, Reason)) -> element(1, Reason);
reason(_Reason) -> failed.

%% A stack without the arguments in it.
-spec stack(stack()) -> stack().
stack(Stack) ->
    [{M, F, arity(A), Where} || {M, F, A, Where} <- Stack].

-spec arity(arity() | [term()]) -> arity().
arity(Arguments) when is_list(Arguments) -> length(Arguments);
arity(Arity) -> Arity.

%% The status of a `gen_statem', with its data as `Shown' has it.
-spec status(fun((Data :: term()) -> term()), gen_statem:format_status()) -> gen_statem:format_status().
status(Shown, Status) ->
    maps:map(fun(data, D) -> Shown(D);
                (queue, Queue) -> length(Queue);
                (postponed, Queue) -> length(Queue);
                (log, _) -> [];
                (message, _) -> hidden;
                (reason, Reason) -> shown_reason(Reason);
                (_, Value) -> Value
             end, Status).

-spec shown_reason(term()) -> term().
shown_reason({_Reason, [{M, F, _, _} | _]}) -> {failed_in, M, F};
shown_reason(Reason) when is_atom(Reason) -> Reason;
shown_reason({Class, _Reason, [{M, F, _, _} | _]}) -> {Class, failed_in, M, F};
shown_reason(_) -> hidden.

%% Logs why a connection has ended, if that was not in order.
-spec closed(atom(), client | server | undefined, gen_tcp:socket() | undefined) -> ok.
closed(closed, _Role, _Socket) ->
    ok;
closed(Reason, Role, Socket) ->
    ?LOG_DEBUG("curve_tun ~ts at ~tp closed: ~tp", [Role, peer(Socket), Reason]).

%% Logs that the next use of a server will be a first use again.
-spec not_remembered(curve_tun_known:server(), atom()) -> ok.
not_remembered({Host, Port}, Reason) ->
    ?LOG_WARNING("curve_tun is connected to [~ts]:~b and could not remember its key: ~tp", [Host, Port, Reason]).

-spec peer(gen_tcp:socket() | undefined) -> term().
peer(undefined) -> unknown;
peer(Socket) ->
    case inet:peername(Socket) of
        {ok, Peer} -> Peer;
        {error, _} -> unknown
    end.
