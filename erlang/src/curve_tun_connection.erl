%%% @private
%%% One connection: it owns the socket and the connection of the NIF, and moves bytes between them.
%%% What it is asked and told is in `curve_tun_request'.
%%%
%%% The states are the original's: `ready -> initiating -> connected' for a client, `ready ->
%%% accepting -> connected' for a server, `closed' from anywhere. Every secret is on the Rust side
%%% of the NIF; what this process holds may be shown, except messages, which `format_status/1'
%%% leaves out.
-module(curve_tun_connection).
-behaviour(gen_statem).

-export([start_link/1]).
-export([init/1, callback_mode/0, handle_event/4, terminate/3, code_change/4, format_status/1]).

-export_type([prepared/0, prepare/0]).

%% What a handshake needs, and what the connection is like afterwards.
-type prepared() :: #{role := curve_tun_handshake:role(),
                      providers := curve_tun_provider:providers(),
                      options := curve_tun_options:options(),
                      %% Where a listener's client is from.
                      peer => curve_tun_log:peer()}.
%% Makes it, in the connection's process: what the NIF gives is to end with the application, and
%% would not on the heap of a process of others, which may keep it as garbage for as long as it
%% likes.
-type prepare() :: fun(() -> {ok, prepared()} | {error, term()}).

-record(data, {
    controller :: {pid(), reference()},
    %% The active mode that a listener's connection is to have, and who was offered it, until he has
    %% taken it. The listener controls it until then, and no message goes to anybody.
    offer = none :: none | {curve_tun:active(), nobody | {pid(), reference()}},
    %% What programs hold: known once there is a TCP socket.
    self :: curve_tun:socket() | undefined,
    socket :: gen_tcp:socket() | undefined,
    %% Who took it from the backlog, and is told when its handshake is over. Until then it ends with
    %% the listener, which has the minute keys rotated.
    listener = none :: none | {pid(), reference()},
    nif :: curve_tun_nif:connection() | undefined,
    prepared :: prepared() | undefined,
    role :: client | server | undefined,
    %% The peer's address, which its socket does not tell any more when it has left.
    peer = unknown :: curve_tun_log:peer(),
    %% Who is told of the end of the handshake, and of that of the connection, and is not told yet;
    %% and when that has begun (`curve_tun_time:now_ms/0').
    events = none :: curve_tun_events:handler(),
    since = 0 :: non_neg_integer(),
    handshake :: curve_tun_handshake:handshake() | undefined,
    %% Whoever waits for the end of the handshake.
    waiting :: gen_statem:from() | undefined,
    %% There is one while several processes send at once, or one in quick succession; and how often
    %% it was asked to send.
    sender :: {pid(), Asked :: pos_integer()} | undefined,
    receivers :: curve_tun_receivers:receivers(),
    high_water = 1 :: pos_integer(),
    reader :: curve_tun_reader:reader() | undefined,
    %% Whether the idle timer runs, and whether anything came since it was set.
    idle_timer = false :: boolean(),
    moved = false :: boolean(),
    %% What the socket has failed with.
    failure = none :: none | atom(),
    %% What is left to do when closing.
    linger :: none | curve_tun_linger:linger()
}).

%% After this many idle milliseconds buffers and heap are given back.
-define(IDLE, 1000).
%% The end of writing waits for what was sent before it, and looks for it so often.
-define(FLUSH_STEP, 10).
%% Words of a new process's heap: enough for a handshake without a collection. What is idle gives
%% them back.
-define(HEAP, 1598).

-spec start_link(pid()) -> {ok, pid()} | {error, term()}.
start_link(Controller) ->
    case gen_statem:start_link(?MODULE, Controller, [{spawn_opt, [{min_heap_size, ?HEAP}]}]) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason};
        ignore -> {error, ignore}
    end.

%%% The process

-spec callback_mode() -> handle_event_function.
callback_mode() -> handle_event_function.

%% A failure is passed on without the arguments and values in it: they go into reports, and can hold
%% messages.
-spec handle_event(gen_statem:event_type(), term(), atom(), #data{}) -> gen_statem:event_handler_result(atom()).
handle_event(Type, Event, State, D) ->
    try
        case State of
            connected -> connected(Type, Event, D);
            ready -> ready(Type, Event, D);
            closed -> closed(Type, Event, D);
            _ -> shaking(Type, Event, State, D)
        end
    catch
        Class:Reason:Stack ->
            case Stack of
                [{curve_tun_nif, _, _, _} | _] when Reason =:= badarg; Reason =:= undef -> nif_is_gone(Type, Event, State, D);
                _ -> erlang:raise(Class, curve_tun_log:reason(Reason), curve_tun_log:stack(Stack))
            end
    end.

-spec init(pid()) -> {ok, ready, #data{}}.
init(Controller) ->
    process_flag(trap_exit, true),
    {ok, ready, #data{controller = {Controller, monitor(process, Controller)},
                      receivers = curve_tun_receivers:new(false), linger = none}}.

-spec terminate(term(), atom(), #data{}) -> ok.
terminate(Reason, State, D) ->
    %% Whatever is wrong with the data, the report that follows shows nothing of it.
    _ = try ended_by(Reason, State, D) catch _:_ -> failed end,
    _ = try release(D) catch _:_ -> failed end,
    curve_tun_log:forget_mailbox().

%% Tells of an end that was not told: the owner or the application has ended.
-spec ended_by(term(), atom(), #data{}) -> #data{}.
ended_by(Reason, State, D) ->
    case Reason =:= normal orelse Reason =:= shutdown of
        true when State =:= connected; State =:= closed -> tell_closed(closed, D);
        true -> tell_refused(closed, D);
        %% `curve_tun_monitor' does for who has crashed.
        false -> D
    end.

-spec release(#data{}) -> ok.
release(#data{socket = Socket, nif = Nif, sender = Sender}) ->
    _ = Nif =:= undefined orelse curve_tun_nif:close(Nif),
    _ = Socket =:= undefined orelse Sender =:= undefined orelse curve_tun_linger:await_sender(Socket, Nif),
    _ = Socket =:= undefined orelse curve_tun_linger:close(Socket),
    ok.

%% What a version before has left is brought up to date here.
-spec code_change(term(), atom(), #data{}, term()) -> {ok, atom(), #data{}}.
code_change(_OldVsn, State, D, _Extra) ->
    {ok, State, D}.

%% Leaves out messages and what is on its way.
-spec format_status(gen_statem:format_status()) -> gen_statem:format_status().
format_status(Status) ->
    curve_tun_log:status(data, fun shown/1, Status).

-spec shown(#data{}) -> map().
shown(#data{controller = Controller, socket = Socket, role = Role, receivers = Rx}) ->
    #{controller => Controller, socket => Socket, role => Role,
      active => curve_tun_receivers:active(Rx), waiting_bytes => curve_tun_receivers:bytes(Rx)}.

%%% ready: the socket and the handshake are awaited; a server's end also waits here for the hello

-spec ready(gen_statem:event_type(), term(), #data{}) -> gen_statem:event_handler_result(atom()).
%% A listener's: it is the controller for now.
ready({call, From}, {attach, Socket, TcpOptions, Prepared}, #data{socket = undefined, controller = {Listener, _}} = D0) ->
    case attached(Socket, TcpOptions, Prepared, D0) of
        {ok, #data{self = Self} = D} ->
            Watched = D#data{listener = {Listener, monitor(process, Listener)}},
            {keep_state, held(Watched), [{reply, From, {ok, Self}}]};
        {{error, Reason}, D} -> {stop_and_reply, normal, [{reply, From, {error, Reason}}], D}
    end;
%% To who accepts transports.
ready({call, From}, {offer, New}, #data{offer = {Active, nobody}, prepared = Prepared} = D) when Prepared =/= undefined ->
    {keep_state, D#data{offer = {Active, {New, monitor(process, New)}}}, [{reply, From, ok}, timer(Prepared)]};
ready({call, From}, {handshake, Socket, TcpOptions, Prepare, Deadline}, #data{socket = undefined} = D0) ->
    case Prepare() of
        {ok, Prepared} -> attach_and_shake(From, Socket, TcpOptions, Prepared, Deadline, D0);
        {error, Reason} -> {stop_and_reply, normal, [{reply, From, {error, Reason}}], D0#data{socket = Socket}}
    end;
ready({call, From}, {handshake, Timeout}, #data{prepared = Prepared} = D) when Prepared =/= undefined ->
    called(From, Timeout, Prepared, D, []);
ready(cast, handshake, #data{prepared = Prepared} = D) when Prepared =/= undefined ->
    begin_handshake(Prepared, D, [timer(Prepared)]);
ready(Type, Event, D) ->
    shaking(Type, Event, ready, D).

-spec attached(gen_tcp:socket(), [term()], prepared(), #data{}) -> {ok | {error, term()}, #data{}}.
attached(Socket, TcpOptions, Prepared, D0) ->
    #{role := Role, options := #{active := Active, receive_high_water := HighWater, buffer := Buffer} = Options} = Prepared,
    Nif = curve_tun_nif:connection_new(),
    D = D0#data{self = {curve_tun_socket, self(), Socket, Nif}, socket = Socket, nif = Nif, prepared = Prepared,
                role = element(1, Role), peer = peer(Socket, Prepared), events = curve_tun_events:handler(Options),
                since = curve_tun_time:now_ms(), receivers = curve_tun_receivers:new(Active), high_water = HighWater,
                reader = curve_tun_reader:new(Socket, Buffer)},
    ok = curve_tun_log:label({curve_tun_connection, D#data.role, D#data.peer}),
    watch(D),
    {inet:setopts(Socket, TcpOptions), D}.

%% A client that waits for somebody to accept it spends none of its time.
-spec timer(prepared()) -> {{timeout, handshake}, timeout(), expired}.
timer(#{options := #{handshake_timeout := Most}}) ->
    {{timeout, handshake}, Most, expired}.

-spec peer(gen_tcp:socket(), prepared()) -> curve_tun_log:peer().
peer(_Socket, #{peer := Peer}) ->
    Peer;
peer(Socket, _Prepared) ->
    case inet:peername(Socket) of
        {ok, Peer} -> Peer;
        {error, _} -> unknown
    end.

%% A listener's connection is passive until somebody has accepted it.
-spec held(#data{}) -> #data{}.
held(#data{receivers = Rx} = D) ->
    D#data{offer = {curve_tun_receivers:active(Rx), nobody}, receivers = curve_tun_receivers:new(false)}.

-spec attach_and_shake(gen_statem:from(), gen_tcp:socket(), [term()], prepared(), curve_tun_time:deadline(), #data{}) ->
          gen_statem:event_handler_result(atom()).
attach_and_shake(From, Socket, TcpOptions, Prepared, Deadline, D0) ->
    case attached(Socket, TcpOptions, Prepared, D0) of
        {ok, D} -> called(From, curve_tun_time:left(Deadline), Prepared, D, [timer(Prepared)]);
        {{error, Reason}, D} -> {stop_and_reply, normal, [{reply, From, {error, Reason}}], D}
    end.

-spec called(gen_statem:from(), timeout(), prepared(), #data{}, [term()]) -> gen_statem:event_handler_result(atom()).
called(From, Timeout, Prepared, D, Actions) ->
    Timer = {{timeout, call}, Timeout, expired},
    begin_handshake(Prepared, D#data{waiting = From}, [Timer | Actions]).

-spec begin_handshake(prepared(), #data{}, [term()]) -> gen_statem:event_handler_result(atom()).
begin_handshake(#{role := Role, providers := Providers}, #data{socket = Socket, nif = Nif, peer = Peer} = D, Actions) ->
    shaken(curve_tun_handshake:start(Role, Providers, Peer, Socket, Nif), D#data{prepared = undefined}, Actions).

-spec shaken(curve_tun_handshake:step(), #data{}, [term()]) -> gen_statem:event_handler_result(atom()).
shaken({read, State, Handshake}, D, Actions) -> read_on(D#data{handshake = Handshake}, State, Actions);
shaken({wait, more, State, Handshake}, D, Actions) -> read_on(D#data{handshake = Handshake}, State, Actions);
shaken({wait, enough, State, Handshake}, D, Actions) -> {next_state, State, D#data{handshake = Handshake}, Actions};
shaken({connected, Came, Ended}, D, _Actions) -> established(Came, Ended, D);
shaken({error, Reason}, D, _Actions) -> handshake_failed(Reason, D).

%% The next bytes of the handshake.
-spec read_on(#data{}, atom(), [term()]) -> gen_statem:event_handler_result(atom()).
read_on(#data{socket = Socket} = D, State, Actions) ->
    %% The socket stays after the peer's end, to tell what that means.
    case inet:setopts(Socket, [{exit_on_close, false}, {active, once}]) of
        ok -> {next_state, State, D, Actions};
        {error, _} -> ended_in_handshake(D#data{failure = failure(D)})
    end.

%% The transport ended before the handshake did.
-spec ended_in_handshake(#data{}) -> gen_statem:event_handler_result(atom()).
ended_in_handshake(#data{handshake = Handshake, failure = Failure} = D) when Handshake =/= undefined ->
    shaken(curve_tun_handshake:ended(Failure, Handshake), D, []);
ended_in_handshake(#data{failure = none} = D) ->
    handshake_failed(closed, D);
ended_in_handshake(#data{failure = Failure} = D) ->
    handshake_failed(Failure, D).

%% What the transport has failed with, if it has not ended in order.
-spec failure(#data{}) -> none | atom().
failure(#data{failure = none, socket = Socket}) ->
    case curve_tun_handshake:transport_failure(Socket) of
        closed -> none;
        Reason -> Reason
    end;
failure(#data{failure = Failure}) ->
    Failure.

-spec shaking(gen_statem:event_type(), term(), atom(), #data{}) -> gen_statem:event_handler_result(atom()).
shaking(info, {tcp, Socket, Bytes}, _State, #data{socket = Socket, handshake = Handshake} = D) ->
    shaken(curve_tun_handshake:bytes(Bytes, Handshake), D, []);
shaking(info, {tcp_closed, Socket}, _State, #data{socket = Socket} = D) ->
    ended_in_handshake(D);
%% It ended without a word.
shaking(info, {'EXIT', Socket, _}, _State, #data{socket = Socket} = D) ->
    ended_in_handshake(D);
shaking(info, {Ref, Answer}, _State, #data{handshake = Handshake} = D) when is_reference(Ref), Handshake =/= undefined ->
    unless_ignored(curve_tun_handshake:answered(Ref, Answer, Handshake), D);
shaking(info, {'EXIT', Pid, _}, _State, #data{handshake = Handshake} = D) when Handshake =/= undefined ->
    unless_ignored(curve_tun_handshake:failed(Pid, Handshake), D);
shaking({timeout, _}, expired, _State, D) ->
    handshake_failed(timeout, D);
shaking({call, From}, close, _State, D) ->
    _ = report({error, closed}, D),
    {stop_and_reply, normal, [{reply, From, ok}]};
shaking({call, From}, {recv, _}, _State, _D) ->
    {keep_state_and_data, [{reply, From, {error, wrong_state}}]};
shaking(info, {'DOWN', Ref, process, _, _}, _State, #data{listener = {_, Ref}} = D) ->
    handshake_failed(closed, D);
shaking(cast, evict, _State, D) ->
    handshake_failed(too_many_handshakes, D);
shaking(Type, Event, State, D) ->
    common(Type, Event, State, D).

-spec unless_ignored(curve_tun_handshake:step() | ignore, #data{}) -> gen_statem:event_handler_result(atom()).
unless_ignored(ignore, _D) -> keep_state_and_data;
unless_ignored(Step, D) -> shaken(Step, D, []).

-spec handshake_failed(atom(), #data{}) -> gen_statem:event_handler_result(atom()).
handshake_failed(Reason, D0) ->
    refused(Reason, D0),
    D = tell_refused(Reason, D0),
    _ = report({error, Reason}, D),
    {stop, normal, D#data{waiting = undefined}}.

%% A server's log says whom it turned away; the client is told nothing.
-spec refused(atom(), #data{}) -> ok.
%% The NIF that it was made with is gone, and what that knew of the client with it.
refused(Reason, #data{role = server, peer = Peer, nif = undefined}) ->
    curve_tun_log:handshake(Reason, Peer, none);
refused(Reason, #data{role = server, peer = Peer, nif = Nif}) ->
    _ = curve_tun_nif:ended(Nif, server, Reason),
    curve_tun_log:handshake(Reason, Peer, curve_tun_nif:proven_public_key(Nif));
refused(Reason, D) ->
    noted(Reason, D).

%% Tells a program's own handler of the end of a handshake. A client's end is the result of a call.
-spec tell_refused(atom(), #data{}) -> #data{}.
tell_refused(Reason, #data{role = server, events = Events, peer = Peer, nif = Nif, since = Since} = D) ->
    curve_tun_events:refused(Events, Reason, server, Peer, Nif, Since),
    told_events(D);
tell_refused(_Reason, D) ->
    told_events(D).

%% Nobody tells it again, whatever happens to us.
-spec told_events(#data{}) -> #data{}.
told_events(#data{events = none} = D) ->
    D;
told_events(D0) ->
    D = D0#data{events = none},
    watch(D),
    D.

-spec report(ok | {error, atom()}, #data{}) -> ok.
report(_Result, #data{waiting = undefined}) -> ok;
report(ok, #data{waiting = From, self = Self}) -> gen_statem:reply(From, {ok, Self});
report(Error, #data{waiting = From}) -> gen_statem:reply(From, Error).

-spec established(binary(), Ended :: boolean(), #data{}) -> gen_statem:event_handler_result(atom()).
established(Came, Ended, #data{socket = Socket, nif = Nif} = D) ->
    _ = inet:setopts(Socket, [{exit_on_close, true}, {active, false}]),
    case inet:getstat(Socket, [recv_oct, send_oct]) of
        {ok, [{recv_oct, Read}, {send_oct, Taken}]} ->
            Reader = curve_tun_reader:had(Read, D#data.reader),
            established(curve_tun_nif:established(Nif, Taken), Came, Ended, D#data{reader = Reader});
        {error, _} ->
            ended_in_handshake(D#data{failure = failure(D), handshake = undefined})
    end.

-spec established(ok | {error, atom()}, binary(), boolean(), #data{}) -> gen_statem:event_handler_result(atom()).
established(ok, Came, Ended, #data{listener = Listener, role = Role, peer = Peer, nif = Nif} = D) ->
    _ = Role =:= server andalso curve_tun_log:handshake(connected, Peer, curve_tun_nif:peer_public_key(Nif)),
    curve_tun_events:established(D#data.events, Role, Peer, Nif, D#data.since),
    ok = report(ok, D),
    ok = handshake_over(Listener),
    {next_state, connected,
     D#data{waiting = undefined, handshake = undefined, listener = none, since = curve_tun_time:now_ms()},
     [{{timeout, handshake}, cancel}, {{timeout, call}, cancel}, {next_event, internal, {early, Came, Ended}}]};
established({error, Reason}, _Came, _Ended, D) ->
    handshake_failed(Reason, D).

-spec handshake_over(none | {pid(), reference()}) -> ok.
handshake_over(none) ->
    ok;
handshake_over({Listener, Ref}) ->
    demonitor(Ref, [flush]),
    curve_tun_request:handshake_over(Listener).

%%% connected

-spec connected(gen_statem:event_type(), term(), #data{}) -> gen_statem:event_handler_result(atom()).
%% Messages may have come with the last packet of the handshake, and the peer's end after them.
connected(internal, {early, Bytes, Ended}, #data{nif = Nif} = D) ->
    case opened(open(Bytes, Nif, []), D) of
        {keep_state, NewD} when Ended -> peer_ended(NewD);
        {keep_state, NewD, _} when Ended -> peer_ended(NewD);
        Opened -> Opened
    end;
connected(info, {tcp, Socket, Bytes}, #data{socket = Socket, nif = Nif, reader = Reader} = D) ->
    opened(open(Bytes, Nif, []), D#data{reader = curve_tun_reader:came(byte_size(Bytes), Reader)});
connected(info, {tcp_passive, Socket}, #data{socket = Socket, reader = Reader} = D) ->
    {keep_state, read_more(D#data{reader = curve_tun_reader:passive(Reader)})};
connected(info, {tcp_closed, Socket}, #data{socket = Socket} = D) ->
    peer_ended(D);
%% It ended without a word.
connected(info, {'EXIT', Socket, _}, #data{socket = Socket} = D) ->
    over(closed, D);
%% Those whom the sender has not answered wait for it no longer.
connected(info, {'EXIT', Sender, _}, #data{sender = {Sender, _}} = D) ->
    {stop, normal, told(crashed, D#data{sender = undefined})};
%% The peer takes no more, but what it has sent before may still wait in the socket, which then
%% tells of its end.
connected(cast, {send_failed, closed}, _D) ->
    keep_state_and_data;
connected(cast, {send_failed, timeout}, D) ->
    over(send_timeout, D);
connected(cast, {send_failed, Reason}, D) ->
    over(Reason, D);
connected({timeout, end_writing}, flush, #data{socket = Socket, nif = Nif}) ->
    case curve_tun_linger:pending(Socket, Nif) of
        0 -> _ = gen_tcp:shutdown(Socket, write), keep_state_and_data;
        _ -> {keep_state_and_data, [{{timeout, end_writing}, ?FLUSH_STEP, flush}]}
    end;
connected({timeout, idle}, idle, #data{moved = true} = D) ->
    {keep_state, D#data{moved = false}, [{{timeout, idle}, ?IDLE, idle}]};
connected({timeout, idle}, idle, #data{nif = Nif, reader = Reader} = D) ->
    curve_tun_nif:release(Nif),
    {keep_state, D#data{idle_timer = false, reader = curve_tun_reader:idle(Reader)}, [hibernate]};
connected({call, From}, {recv, Timeout}, #data{receivers = Rx, nif = Nif} = D) ->
    %% Nobody is to wait for what cannot come.
    _ = curve_tun_receivers:bytes(Rx) =/= 0 orelse curve_tun_handles:is_current(Nif) orelse curve_tun_request:reloaded(self()),
    {keep_state, resume(D#data{receivers = curve_tun_receivers:recv(From, Timeout, Rx)})};
connected({call, From}, {send, Messages}, #data{sender = undefined, socket = Socket, nif = Nif} = D) ->
    Sender = curve_tun_sender:start_link(self(), Socket, Nif),
    curve_tun_sender:enqueue(Sender, From, Messages),
    {keep_state, D#data{sender = {Sender, 1}}};
connected({call, From}, {send, Messages}, #data{sender = {Sender, Asked}} = D) ->
    curve_tun_sender:enqueue(Sender, From, Messages),
    {keep_state, D#data{sender = {Sender, Asked + 1}}};
connected({call, From}, close, D) ->
    gen_statem:reply(From, ok),
    linger(D);
connected({call, From}, {shutdown, How}, D) ->
    shut_down(How, From, D);
connected(Type, Event, D) ->
    common(Type, Event, connected, D).

-spec peer_ended(#data{}) -> gen_statem:event_handler_result(atom()).
peer_ended(#data{failure = none} = D) -> over(closed, D);
peer_ended(#data{failure = Failure} = D) -> over(Failure, D).

%% Opens all that came, in portions.
-spec open(binary(), curve_tun_nif:connection(), [[binary()]]) -> {[binary()], ok | atom()}.
open(Bytes, Nif, Acc) ->
    case curve_tun_nif:open(Nif, Bytes) of
        {Messages, <<>>, Status} -> {in_order(Messages, Acc), Status};
        {Messages, Rest, ok} -> open(Rest, Nif, [Messages | Acc]);
        {Messages, _Rest, Reason} -> {in_order(Messages, Acc), Reason};
        {error, Reason} -> {in_order([], Acc), Reason}
    end.

-spec in_order([binary()], [[binary()]]) -> [binary()].
in_order(Messages, []) -> Messages;
in_order(Messages, Acc) -> lists:append(lists:reverse([Messages | Acc])).

-spec opened({[binary()], ok | atom()}, #data{}) -> gen_statem:event_handler_result(atom()).
opened({Messages, Status}, #data{receivers = Rx0} = D0) ->
    D = D0#data{receivers = curve_tun_receivers:deliver(Messages, controller(D0), Rx0), moved = true},
    case Status of
        ok when D#data.idle_timer -> {keep_state, read_more(D)};
        ok -> {keep_state, read_more(D#data{idle_timer = true, moved = false}), [{{timeout, idle}, ?IDLE, idle}]};
        Reason -> over(Reason, D)
    end.

-spec controller(#data{}) -> {pid(), curve_tun:socket()}.
controller(#data{controller = {Pid, _}, self = Self}) -> {Pid, Self}.

-spec read_more(#data{}) -> #data{}.
read_more(#data{reader = Reader, receivers = Rx, high_water = HighWater} = D) ->
    D#data{reader = curve_tun_reader:read_more(curve_tun_receivers:bytes(Rx) >= HighWater, Reader)}.

%% Reads on once half of what waited is gone.
-spec resume(#data{}) -> #data{}.
resume(#data{reader = Reader, receivers = Rx, high_water = HighWater} = D) ->
    D#data{reader = curve_tun_reader:resume(curve_tun_receivers:bytes(Rx) =< HighWater div 2, Reader)}.

-spec shut_down(read | write | read_write, gen_statem:from(), #data{}) -> gen_statem:event_handler_result(atom()).
shut_down(read, From, #data{receivers = Rx} = D) ->
    gen_statem:reply(From, ok),
    {keep_state, D#data{receivers = curve_tun_receivers:end_with(closed, Rx)}};
shut_down(write, From, #data{nif = Nif}) ->
    curve_tun_nif:end_sending(Nif),
    %% The end goes out after all that was sent. Waiting for that here would keep us from receiving.
    {keep_state_and_data, [{reply, From, ok}, {{timeout, end_writing}, 0, flush}]};
shut_down(read_write, From, D) ->
    gen_statem:reply(From, ok),
    linger(D#data{receivers = curve_tun_receivers:end_with(closed, D#data.receivers)}).

%%% closed: what came before can still be had; the socket may still be handing over what was sent

%% The connection is over, for `closed' in order. It stays for as long as there is something to
%% tell.
-spec over(atom(), #data{}) -> gen_statem:event_handler_result(atom()).
over(Reason, D) ->
    stay(told(Reason, D)).

%% Ends the connection at once, and tells why as far as somebody listens.
-spec told(atom(), #data{}) -> #data{}.
told(Reason, #data{socket = Socket, nif = Nif, receivers = Rx} = D0) ->
    noted(Reason, D0),
    D = tell_closed(Reason, D0),
    curve_tun_nif:close(Nif),
    curve_tun_linger:close(Socket),
    Ended = curve_tun_receivers:end_with(Reason, Rx),
    D#data{socket = undefined, receivers = curve_tun_receivers:deliver([], controller(D), Ended)}.

%% Tells a program's own handler of the end of a connection, once.
-spec tell_closed(atom(), #data{}) -> #data{}.
tell_closed(Reason, #data{events = Events, role = Role, peer = Peer, nif = Nif, reader = Reader, since = Since} = D) ->
    curve_tun_events:closed(Events, Reason, Role, Peer, Nif, curve_tun_reader:bytes(Reader), Since),
    told_events(D).

%% The NIF's module was deleted and loaded again: the connection, or what it needs for its
%% handshake, is of the one before. Nothing of that can be saved but the messages that have come.
-spec nif_is_gone(gen_statem:event_type(), term(), atom(), #data{}) -> gen_statem:event_handler_result(atom()).
nif_is_gone(Type, _Event, State, #data{sender = Sender} = D) ->
    _ = [curve_tun_sender:look_again(Pid) || {Pid, _} <- [Sender]],
    nif_is_gone(Type, State, D).

-spec nif_is_gone(gen_statem:event_type(), atom(), #data{}) -> gen_statem:event_handler_result(atom()).
nif_is_gone(_Type, _State, #data{linger = Linger}) when Linger =/= none ->
    {stop, normal};
nif_is_gone(Type, State, #data{socket = Socket, receivers = Rx, listener = Listener} = D0) ->
    D = case State of connected -> tell_closed(closed, D0); _ -> D0 end,
    _ = [gen_statem:reply(From, {error, closed}) || {call, From} <- [Type]],
    %% What a listener has for its clients is of the one before, too.
    _ = [gen_server:cast(Pid, reloaded) || {Pid, _} <- [Listener]],
    _ = Socket =:= undefined orelse curve_tun_linger:close(Socket),
    Ended = curve_tun_receivers:end_with(closed, Rx),
    Left = D#data{socket = undefined, nif = undefined},
    case State =:= connected orelse State =:= closed of
        true -> stay(Left#data{receivers = curve_tun_receivers:deliver([], controller(D), Ended)});
        false -> handshake_failed(closed, Left)
    end.

-spec stay(#data{}) -> gen_statem:event_handler_result(atom()).
stay(#data{receivers = Rx} = D) ->
    case curve_tun_receivers:is_over(Rx) of
        true -> {stop, normal, D};
        false -> {next_state, closed, D, [{{timeout, idle}, cancel}]}
    end.

%% Closing in order: see `curve_tun_linger'.
-spec linger(#data{}) -> gen_statem:event_handler_result(atom()).
linger(#data{nif = Nif, receivers = Rx, socket = Socket} = D0) ->
    D = tell_closed(closed, D0),
    curve_tun_nif:close(Nif),
    Ended = D#data{receivers = curve_tun_receivers:end_with(closed, Rx), linger = curve_tun_linger:start(Socket, Nif)},
    {next_state, closed, Ended, [{{timeout, idle}, cancel}, {state_timeout, 0, linger}]}.

-spec closed(gen_statem:event_type(), term(), #data{}) -> gen_statem:event_handler_result(atom()).
closed(state_timeout, linger, #data{linger = Linger} = D) ->
    case curve_tun_linger:due(Linger) of
        {wait, Ms, Next} -> {keep_state, D#data{linger = Next}, [{state_timeout, Ms, linger}]};
        over -> {stop, normal, D}
    end;
closed(info, {tcp, _, _}, _D) ->
    keep_state_and_data;
closed(info, {tcp_passive, _}, #data{linger = Linger}) when Linger =/= none ->
    curve_tun_linger:passive(Linger),
    keep_state_and_data;
closed(info, {tcp_closed, _}, #data{linger = Linger} = D) when Linger =/= none ->
    {stop, normal, D};
closed({call, From}, close, #data{linger = none} = D) ->
    {stop_and_reply, normal, [{reply, From, ok}], D};
closed({call, From}, close, _D) ->
    {keep_state_and_data, [{reply, From, ok}]};
closed({call, From}, {recv, Timeout}, #data{linger = none, receivers = Rx} = D) ->
    stay(D#data{receivers = curve_tun_receivers:recv(From, Timeout, Rx)});
closed({call, From}, Request, #data{linger = none} = D)
  when Request =:= pause; Request =:= take; element(1, Request) =:= controlling_process;
       element(1, Request) =:= offer; element(1, Request) =:= set_active ->
    common({call, From}, Request, closed, D);
closed({call, From}, _Request, _D) ->
    {keep_state_and_data, [{reply, From, {error, closed}}]};
closed(cast, {send_failed, _}, _D) ->
    keep_state_and_data;
closed(Type, Event, D) ->
    common(Type, Event, closed, D).

%%% Events that mean the same in every state

-spec common(gen_statem:event_type(), term(), atom(), #data{}) -> gen_statem:event_handler_result(atom()).
common({call, From}, {set_active, Active}, State, #data{receivers = Rx0} = D) ->
    {Pid, Self} = controller(D),
    case curve_tun_receivers:set_active(Active, Rx0) of
        {error, Reason} ->
            {keep_state_and_data, [{reply, From, {error, Reason}}]};
        {Outcome, Rx} ->
            gen_statem:reply(From, ok),
            _ = [Pid ! {curve_tun_passive, Self} || Outcome =:= passive],
            settled(State, D#data{receivers = curve_tun_receivers:deliver([], {Pid, Self}, Rx)})
    end;
common({call, From}, get_active, _State, #data{receivers = Rx}) ->
    {keep_state_and_data, [{reply, From, {ok, curve_tun_receivers:active(Rx)}}]};
%% A hand-over has two steps: the mode is made passive, so that the old controller can pass on what
%% it has got.
common({call, {Pid, _} = From}, pause, State, #data{controller = {Pid, _}, receivers = Rx0} = D) ->
    {ok, Rx} = curve_tun_receivers:set_active(false, Rx0),
    Reply = {ok, curve_tun_receivers:active(Rx0)},
    {next_state, State, D#data{receivers = Rx}, [{reply, From, Reply}]};
common({call, {Pid, _} = From}, {controlling_process, New, Active}, State, #data{controller = {Pid, _}} = D) ->
    gen_statem:reply(From, ok),
    settled(State, in_mode(Active, set_controller(New, D)));
common({call, From}, Request, _State, _D) when Request =:= pause; element(1, Request) =:= controlling_process ->
    {keep_state_and_data, [{reply, From, {error, not_owner}}]};
common({call, From}, {offer, New}, _State, #data{offer = {Active, nobody}} = D) ->
    {keep_state, D#data{offer = {Active, {New, monitor(process, New)}}}, [{reply, From, ok}]};
common({call, {New, _} = From}, take, State, #data{offer = {Active, {New, Ref}}} = D) ->
    demonitor(Ref, [flush]),
    gen_statem:reply(From, ok),
    settled(State, in_mode(Active, set_controller(New, D#data{offer = none})));
common({call, From}, socket, _State, #data{socket = Socket}) when Socket =/= undefined ->
    {keep_state_and_data, [{reply, From, {ok, Socket}}]};
common({call, From}, information, State, #data{nif = Nif, role = Role}) when Nif =/= undefined ->
    {keep_state_and_data, [{reply, From, {ok, State, Role, Nif}}]};
common({call, From}, _Request, _State, _D) ->
    {keep_state_and_data, [{reply, From, {error, wrong_state}}]};
common(cast, {sender_idle, Sender, Asked}, _State, #data{sender = {Sender, Asked}} = D) ->
    curve_tun_sender:stop(Sender),
    {keep_state, D#data{sender = undefined}};
common(cast, reloaded, State, #data{nif = Nif} = D) when Nif =/= undefined ->
    case curve_tun_handles:is_current(Nif) of
        true -> keep_state_and_data;
        false -> nif_is_gone(cast, reloaded, State, D)
    end;
common(cast, watch_again, _State, D) ->
    watch(D),
    keep_state_and_data;
common(info, {timeout, Timer, recv}, _State, #data{receivers = Rx} = D) ->
    {keep_state, D#data{receivers = curve_tun_receivers:expired(Timer, Rx)}};
common(info, {tcp_error, Socket, Reason}, _State, #data{socket = Socket} = D) ->
    {keep_state, D#data{failure = Reason}};
common(info, {'DOWN', Ref, process, _, _}, State, #data{controller = {_, Ref}} = D) ->
    controller_gone(State, D);
common(info, {'DOWN', Ref, process, _, _}, State, #data{offer = {_, {_, Ref}}} = D) ->
    controller_gone(State, D);
common(info, {'DOWN', Ref, process, _, _}, _State, #data{receivers = Rx} = D) ->
    {keep_state, D#data{receivers = curve_tun_receivers:gone(Ref, Rx)}};
common(info, {'EXIT', Sender, _}, _State, #data{sender = {Sender, _}}) ->
    {stop, normal};
common(_Type, _Event, _State, _D) ->
    keep_state_and_data.

%% After a change of the active mode: an ended connection may now be over, a full one may read on.
-spec settled(atom(), #data{}) -> gen_statem:event_handler_result(atom()).
settled(closed, D) -> stay(D);
settled(connected, D) -> {keep_state, resume(D)};
settled(_State, D) -> {keep_state, D}.

%% Sets an active mode for a new controller. Whoever has set another meanwhile may have it.
-spec in_mode(curve_tun:active(), #data{}) -> #data{}.
in_mode(false, D) ->
    D;
in_mode(Active, #data{receivers = Rx0} = D) ->
    case curve_tun_receivers:set_active(Active, Rx0) of
        {error, einval} ->
            D;
        {Outcome, Rx} ->
            {Pid, Self} = controller(D),
            _ = [Pid ! {curve_tun_passive, Self} || Outcome =:= passive],
            D#data{receivers = curve_tun_receivers:deliver([], {Pid, Self}, Rx)}
    end.

-spec set_controller(pid(), #data{}) -> #data{}.
set_controller(New, #data{controller = {_, Ref}} = D0) ->
    demonitor(Ref, [flush]),
    D = D0#data{controller = {New, monitor(process, New)}},
    watch(D),
    D.

-spec watch(#data{}) -> ok.
watch(#data{self = undefined}) -> ok;
watch(#data{controller = {Controller, _}, self = Self, role = Role, peer = Peer, events = Events, since = Since}) ->
    curve_tun_monitor:watch({Controller, Self, Role, Since, case Events of none -> none; _ -> {Events, Peer} end}).

%% Nobody is left to speak to: the connection ends, and the peer sees it.
-spec controller_gone(atom(), #data{}) -> gen_statem:event_handler_result(atom()).
controller_gone(connected, D) -> linger(D);
controller_gone(closed, #data{linger = Linger}) when Linger =/= none -> keep_state_and_data;
controller_gone(_State, D) -> {stop, normal, D}.

%% Keeps why the connection has ended, for as long as somebody has its socket, and logs it.
-spec noted(atom(), #data{}) -> ok.
noted(Reason, #data{role = Role, peer = Peer, nif = Nif}) ->
    _ = Nif =:= undefined orelse curve_tun_nif:ended(Nif, Role, Reason),
    curve_tun_log:closed(Reason, Role, Peer).
