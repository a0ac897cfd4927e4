%%% @private
%%% What logs and crash reports may show: no message of a connection, and nothing that is on its
%%% way.
-module(curve_tun_log).

-include_lib("kernel/include/logger.hrl").

-export([reason/1, stack/1, status/3, forget_mailbox/0, closed/3, not_remembered/2]).
-export([start/0, show/0, hide/0, handshake/3]).

%% What is known of a client's key: it counts once it is proven.
-type known() :: {ok, curve_tun:public_key()} | none | {error, atom()}.
-type address() :: inet:ip_address() | unknown.

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

%% The status of a `gen_statem' or `gen_server', with what stands under `Key', its data, as `Shown'
%% has it. Whatever its shape, it becomes one that OTP's reports print: if this failed they would
%% print all of it.
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

%% Drops what the calling process has been asked and not answered, for it ends: crash reports print
%% mailboxes.
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

%% How many lines a second there are at most of clients that were turned away: strangers decide how
%% many clients there are.
-define(LINES_MAX, 10).
%% Where they are counted: the second, the lines in it, and those that were left out since the last
%% one.
-define(COUNTS, {?MODULE, counts}).
-define(SECOND, 1).
-define(LINES, 2).
-define(LEFT_OUT, 3).

%% Makes the counts, unless there are some. They outlast the application.
-spec start() -> ok.
start() ->
    case persistent_term:get(?COUNTS, none) of
        none -> persistent_term:put(?COUNTS, atomics:new(3, []));
        _ -> ok
    end.

%% Has the default handler show what is logged here. As it comes with OTP it shows events of OTP and
%% those that have no domain; ours have one, so that a program can choose.
-spec show() -> ok.
show() ->
    %% There may be no such handler, or one that was told already.
    _ = logger:add_handler_filter(default, curve_tun, {fun logger_filters:domain/2, {log, sub, [curve_tun]}}),
    ok.

-spec hide() -> ok.
hide() ->
    _ = logger:remove_handler_filter(default, curve_tun),
    ok.

%% Logs what became of a client of a server's: let in, turned away, or gone by itself. What it has
%% not proven is not said.
-spec handshake(connected | atom(), address(), known()) -> ok.
handshake(connected, Address, Key) ->
    ?LOG_DEBUG("curve_tun accepted ~ts ~ts", [address(Address), key(Key)],
               about(accepted, connected, Address, Key));
handshake(closed, Address, Key) ->
    ?LOG_DEBUG("curve_tun refused ~ts ~ts: ~ts", [address(Address), key(Key), closed],
               about(refused, closed, Address, Key));
handshake(too_many_handshakes, Address, Key) ->
    turned_away(evicted, too_many_handshakes, Address, Key);
handshake(Reason, Address, Key) ->
    turned_away(refused, Reason, Address, Key).

-spec turned_away(refused | evicted, atom(), address(), known()) -> ok.
turned_away(Outcome, Reason, Address, Key) ->
    Now = erlang:monotonic_time(second),
    case logger:allow(notice, ?MODULE) andalso may_say(counts(), Now) of
        false ->
            ok;
        {true, LeftOut} ->
            About = about(Outcome, Reason, Address, Key),
            Values = [Outcome, address(Address), key(Key), Reason, left_out(LeftOut)],
            ?LOG_NOTICE("curve_tun ~ts ~ts ~ts: ~ts~ts", Values, About#{left_out => LeftOut})
    end.

-spec counts() -> atomics:atomics_ref().
counts() ->
    ok = start(),
    persistent_term:get(?COUNTS).

%% Whether there may be a line in this second; and how many were left out before it.
-spec may_say(atomics:atomics_ref(), integer()) -> {true, non_neg_integer()} | false.
may_say(Counts, Now) ->
    Second = atomics:get(Counts, ?SECOND),
    _ = Second =/= Now andalso atomics:compare_exchange(Counts, ?SECOND, Second, Now) =:= ok
        andalso atomics:put(Counts, ?LINES, 0),
    case atomics:add_get(Counts, ?LINES, 1) =< ?LINES_MAX of
        true -> {true, atomics:exchange(Counts, ?LEFT_OUT, 0)};
        false -> atomics:add(Counts, ?LEFT_OUT, 1), false
    end.

-spec left_out(non_neg_integer()) -> string().
left_out(0) -> "";
left_out(Count) -> io_lib:format(" (~b more were turned away before)", [Count]).

-spec about(accepted | refused | evicted, atom(), address(), known()) -> logger:metadata().
about(Outcome, Reason, Address, Key) ->
    #{domain => [curve_tun], outcome => Outcome, reason => Reason, address => Address,
      key => key(Key)}.

-spec address(address()) -> string().
address(unknown) -> "unknown";
address(Address) -> inet:ntoa(Address).

%% The text of a key that is proven.
-spec key(known()) -> binary().
key({ok, Key}) -> curve_tun_nif:public_key_to_text(Key);
key(_) -> <<"-">>.

%% Logs that the next use of a server will be a first use again.
-spec not_remembered(curve_tun_known_servers:server(), atom()) -> ok.
not_remembered({Host, Port}, Reason) ->
    ?LOG_WARNING("curve_tun is connected to [~ts]:~b and could not remember its key: ~tp", [Host, Port, Reason]).

-spec peer(gen_tcp:socket() | undefined) -> term().
peer(undefined) -> unknown;
peer(Socket) ->
    case inet:peername(Socket) of
        {ok, Peer} -> Peer;
        {error, _} -> unknown
    end.
