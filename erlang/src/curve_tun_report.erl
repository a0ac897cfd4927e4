%%% @private
%%% What logs and crash reports may show: no message of a connection, and nothing that is on its way.
-module(curve_tun_report).

-include_lib("kernel/include/logger.hrl").

-export([reason/1, stack/1, status/3, forget_mailbox/0, closed/3, not_remembered/2]).

-type stack() :: [{module(), atom(), arity() | [term()], [term()]}].

%% A failure's reason without the values in it: they can hold messages.
-spec reason(term()) -> atom().
reason(Reason) when is_atom(Reason) -> Reason;
reason(Reason) when is_tuple(Reason), tuple_size(Reason) > 0, is_atom(element(1, Reason)) -> element(1, Reason);
reason(_Reason) -> failed.

%% A stack without the arguments in it.
-spec stack(stack()) -> stack().
stack(Stack) ->
    [{M, F, arity(A), Where} || {M, F, A, Where} <- Stack].

-spec arity(arity() | [term()]) -> arity().
arity(Arguments) when is_list(Arguments) -> length(Arguments);
arity(Arity) -> Arity.

%% The status of a `gen_statem' or `gen_server', with what stands under `Key', its data, as `Shown' has it. Whatever its
%% shape, it becomes one that OTP's reports print: if this failed they would print all of it.
-spec status(data | state, fun((Data :: term()) -> term()), map()) -> map().
status(Key, Shown, Status) ->
    maps:map(fun(K, Data) when K =:= Key -> shown(Shown, Data);
                (queue, Events) -> events(Events);
                (postponed, Events) -> events(Events);
                (log, _) -> [];
                (message, Message) -> tag(Message);
                (reason, Reason) -> shown_reason(Reason);
                (_, Value) -> Value
             end, Status).

%% The data may be anything when a process has crashed.
-spec shown(fun((Data :: term()) -> term()), term()) -> term().
shown(Shown, Data) ->
    try Shown(Data)
    catch _:_ -> hidden
    end.

%% Events as pairs, without what they bring.
-spec events(term()) -> [{term(), atom()}].
events([{Type, Content} | Events]) -> [{Type, tag(Content)} | events(Events)];
events(_) -> [].

-spec tag(term()) -> atom().
tag(Content) when is_atom(Content) -> Content;
tag(Content) when is_tuple(Content), tuple_size(Content) > 0, is_atom(element(1, Content)) -> element(1, Content);
tag(_Content) -> hidden.

-spec shown_reason(term()) -> term().
shown_reason({_Reason, [{M, F, _, _} | _]}) -> {failed_in, M, F};
shown_reason(Reason) when is_atom(Reason) -> Reason;
shown_reason({Class, _Reason, [{M, F, _, _} | _]}) -> {Class, failed_in, M, F};
shown_reason(_) -> hidden.

%% Drops what the calling process has been asked and not answered, for it ends: crash reports print mailboxes.
-spec forget_mailbox() -> ok.
forget_mailbox() ->
    receive _ -> forget_mailbox()
    after 0 -> ok
    end.

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
