%%% @private
%%% Decides what logs and crash reports may show: no message of a connection, and no data in flight.
-module(curve_tun_log).

-include_lib("kernel/include/logger.hrl").

-export([reason/1, stack/1, status/3, forget_mailbox/0, label/1, peer_text/1]).
-export([start/0, show/0, hide/0, handshake/3, closed/3, not_remembered/2, registry_file/3, handler_failed/5]).
-export_type([peer/0]).

%% What is known of a client's key, which counts only once it is proven.
-type known() :: {ok, curve_tun:public_key()} | none | {error, atom()}.
%% The other end of a connection. A server does not know the address of a client that left too soon.
-type peer() :: {inet:ip_address(), inet:port_number()} | unknown.

-type stack() :: [{module(), atom(), arity() | [term()], [term()]}].

%% Returns a failure's reason without the values in it, which may hold messages.
-spec reason(term()) -> atom().
reason(Reason) when is_atom(Reason) -> Reason;
reason(Reason) when is_tuple(Reason), tuple_size(Reason) > 0, is_atom(element(1, Reason)) -> element(1, Reason);
reason(_Reason) -> failed.

%% Returns a stack without the arguments in it.
-spec stack(stack()) -> stack().
stack(Stack) ->
    [{M, F, arity(A), Where} || {M, F, A, Where} <- Stack].

-spec arity(arity() | [term()]) -> arity().
arity(Arguments) when is_list(Arguments) -> length(Arguments);
arity(Arity) -> Arity.

%% Returns the status of a `gen_statem' or `gen_server' with its data, under `Key', replaced by the
%% result of `Shown'. Whatever the shape of the data, the result is one that OTP's reports can
%% print: if this failed they would print everything.
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

%% The data of a crashed process may have any shape.
-spec shown(fun((Data :: term()) -> term()), term()) -> term().
shown(Shown, Data) ->
    try Shown(Data)
    catch _:_ -> hidden
    end.

%% Returns events as pairs, without their contents.
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

%% Drops the unanswered requests of the calling process, which is about to end: crash reports print
%% mailboxes.
-spec forget_mailbox() -> ok.
forget_mailbox() ->
    receive _ -> forget_mailbox()
    after 0 -> ok
    end.

%% Labels the calling process for observer and crash reports, where OTP supports labels (27 on).
-spec label(term()) -> ok.
label(Label) ->
    case erlang:function_exported(proc_lib, set_label, 1) of
        true -> _ = apply(proc_lib, binary_to_existing_atom(<<"set_label">>), [Label]), ok;
        false -> ok
    end.

%% Logs why a connection has ended, unless it ended in order.
-spec closed(curve_tun_nif:reason(), client | server | undefined, peer()) -> ok.
closed(closed, _Role, _Peer) ->
    ok;
closed(Reason, Role, Peer) ->
    ?LOG_DEBUG("curve_tun ~ts at ~ts closed: ~tp", [Role, peer_text(Peer), Reason],
               #{domain => [curve_tun], peer => Peer, reason => Reason, role => Role}).

%% Maximum lines per second about clients that were turned away, since strangers decide how many
%% clients there are.
-define(LINES_MAX, 10).
%% The counters: the second, the lines in it, and how many were left out since the last line.
-define(COUNTS, {?MODULE, counts}).
%% The same for warnings about a program's event handler.
-define(WARNINGS, {?MODULE, warnings}).
-define(SECOND, 1).
-define(LINES, 2).
-define(LEFT_OUT, 3).

%% Makes the counters, unless they exist. They outlive the application.
-spec start() -> ok.
start() ->
    _ = [persistent_term:put(Counts, atomics:new(3, []))
         || Counts <- [?COUNTS, ?WARNINGS], persistent_term:get(Counts, none) =:= none],
    ok.

%% Makes the default handler show what is logged here. By default it shows OTP's events and those
%% without a domain. Events of this application have one, so that programs can filter them.
-spec show() -> ok.
show() ->
    %% The handler may not exist, or may have the filter already.
    _ = logger:add_handler_filter(default, curve_tun, {fun logger_filters:domain/2, {log, sub, [curve_tun]}}),
    ok.

-spec hide() -> ok.
hide() ->
    _ = logger:remove_handler_filter(default, curve_tun),
    ok.

%% Logs the result for a client of a server: let in, turned away, or gone by itself. A key that is
%% not proven is not logged.
-spec handshake(connected | curve_tun_nif:reason(), peer(), known()) -> ok.
handshake(connected, Peer, Key) ->
    ?LOG_DEBUG("curve_tun accepted ~ts ~ts", [address(Peer), key(Key)], about(accepted, connected, Peer, Key));
handshake(too_many_handshakes, Peer, Key) ->
    turned_away(evicted, too_many_handshakes, Peer, Key);
handshake(Reason, Peer, Key) ->
    case has_left(Reason) of
        true -> ?LOG_DEBUG("curve_tun refused ~ts ~ts: ~tp", [address(Peer), key(Key), Reason],
                           about(refused, Reason, Peer, Key));
        false -> turned_away(refused, Reason, Peer, Key)
    end.

%% Says whether the client, or the network in between, ended the transport.
-spec has_left(curve_tun_nif:reason()) -> boolean().
has_left({aborted, _Code}) ->
    true;
has_left(Reason) ->
    lists:member(Reason, [closed, econnreset, econnaborted, epipe, etimedout, ehostunreach, ehostdown, enetunreach,
                          enetdown, enetreset]).

-spec turned_away(refused | evicted, curve_tun_nif:reason(), peer(), known()) -> ok.
turned_away(Outcome, Reason, Peer, Key) ->
    Now = erlang:monotonic_time(second),
    case logger:allow(notice, ?MODULE) andalso may_say(counts(?COUNTS), Now) of
        false ->
            ok;
        {true, LeftOut} ->
            About = about(Outcome, Reason, Peer, Key),
            Values = [Outcome, address(Peer), key(Key), Reason, left_out(LeftOut)],
            ?LOG_NOTICE("curve_tun ~ts ~ts ~ts: ~tp~ts", Values, About#{left_out => LeftOut})
    end.

-spec counts(term()) -> atomics:atomics_ref().
counts(Which) ->
    ok = start(),
    persistent_term:get(Which).

%% Says whether a line may be logged in this second, and how many were left out before it.
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

-spec about(accepted | refused | evicted, curve_tun_nif:reason(), peer(), known()) -> logger:metadata().
about(Outcome, Reason, Peer, Key) ->
    Address = case Peer of
                  {Known, _Port} -> Known;
                  unknown -> unknown
              end,
    #{domain => [curve_tun], outcome => Outcome, reason => Reason, peer => Peer, address => Address, key => key(Key)}.

-spec address(peer()) -> string().
address(unknown) -> "unknown";
address({Address, _Port}) -> inet:ntoa(Address).

%% Formats an address and port in the usual form.
-spec peer_text(peer()) -> string().
peer_text(unknown) -> "unknown";
peer_text({{_, _, _, _} = Address, Port}) -> lists:flatten(io_lib:format("~ts:~b", [inet:ntoa(Address), Port]));
peer_text({Address, Port}) -> lists:flatten(io_lib:format("[~ts]:~b", [inet:ntoa(Address), Port])).

%% Returns the text of a proven key.
-spec key(known()) -> binary().
key({ok, Key}) -> curve_tun_nif:public_key_to_text(Key);
key(_) -> <<"-">>.

%% Logs that the next use of a server will be a first use again.
-spec not_remembered(curve_tun_known_servers:server(), atom()) -> ok.
not_remembered({Host, Port} = Server, Reason) ->
    ?LOG_WARNING("curve_tun is connected to [~ts]:~b and could not remember its key: ~tp", [Host, Port, Reason],
                 #{domain => [curve_tun], peer => Server, reason => Reason}).

%% Logs why the application does not start with its registry file.
-spec registry_file(binary(), atom(), none | {pos_integer(), pos_integer(), binary()} | atom()) -> ok.
registry_file(Path, Reason, {Line, Column, What}) ->
    ?LOG_ERROR("curve_tun cannot use the registry file ~ts: line ~b, column ~b: ~ts", [Path, Line, Column, What],
               #{domain => [curve_tun], reason => Reason, file_name => Path, line_number => Line});
registry_file(Path, Reason, _) ->
    ?LOG_ERROR("curve_tun cannot use the registry file ~ts: ~ts", [Path, curve_tun_reason:text(Reason)],
               #{domain => [curve_tun], reason => Reason, file_name => Path}).

%% Logs that a program's event handler has crashed, without the values involved.
-spec handler_failed(module(), atom(), error | exit | throw, term(), stack()) -> ok.
handler_failed(Module, Event, Class, Reason, Stack) ->
    case logger:allow(warning, ?MODULE) andalso may_say(counts(?WARNINGS), erlang:monotonic_time(second)) of
        false ->
            ok;
        {true, LeftOut} ->
            ?LOG_WARNING("curve_tun's event handler ~ts has failed at ~ts with ~ts:~ts in ~tp",
                         [Module, Event, Class, reason(Reason), stack(Stack)],
                         #{domain => [curve_tun], reason => reason(Reason), event => Event, left_out => LeftOut})
    end.
