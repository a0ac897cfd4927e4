%%% @private
%%% One connection: owns the socket and the connection of the NIF, and moves bytes between them. Its
%%% requests and casts are listed in `curve_tun_request'.
%%%
%%% The states are the original's: `ready -> initiating -> connected' for a client,
%%% `ready -> accepting -> connected' for a server, `closed' from any of them. Every secret is on
%%% the Rust side of the NIF; the data of this process may be shown, except for messages, which
%%% `format_status/1' leaves out. The states before `connected' are in `curve_tun_connection_setup'.
%%% A connection that carries a stream has `opening', at a server's end, before `connected', and
%%% `closing' after it; what differs there is in `curve_tun_connection_stream'.
-module(curve_tun_connection).
-behaviour(gen_statem).

-include("curve_tun_connection.hrl").

-export([start_link/1]).
-export([init/1, callback_mode/0, handle_event/4, terminate/3, code_change/4, format_status/1]).

-export_type([prepared/0, prepare/0]).

%% What a handshake needs, and the properties of the connection afterwards.
-type prepared() :: #{role := curve_tun_handshake:role(),
                      providers := curve_tun_provider:providers(),
                      options := curve_tun_options:options(),
                      %% Where a listener's client connects from.
                      peer => curve_tun_log:peer()}.
%% Prepares it in the connection's process, since what the NIF returns has to end with the
%% application. On the heap of another process it might stay as garbage indefinitely.
-type prepare() :: fun(() -> {ok, prepared()} | {error, term()}).

%% The end of writing waits for all earlier data to go out, polling at this interval.
-define(FLUSH_STEP, 10).
%% Words of a new process's heap: enough for a handshake without a garbage collection. An idle
%% process gives them back.
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

%% Re-raises a failure without the arguments and values in it: they end up in reports, and may hold
%% messages.
-spec handle_event(gen_statem:event_type(), term(), atom(), #data{}) -> gen_statem:event_handler_result(atom()).
handle_event(Type, Event, State, D) ->
    try
        case State of
            connected when D#data.stream =:= none -> connected(Type, Event, D);
            closed -> closed(Type, Event, D);
            _ when State =:= connected; State =:= closing ->
                of_stream(curve_tun_connection_stream:event(Type, Event, State, D), Type, Event, State, D);
            _ ->
                case curve_tun_connection_setup:event(Type, Event, State, D) of
                    unhandled -> common(Type, Event, State, D);
                    Result -> Result
                end
        end
    catch
        Class:Reason:Stack ->
            case Stack of
                [{curve_tun_nif, _, _, _} | _] when Reason =:= badarg; Reason =:= undef -> nif_is_gone(Type, Event, State, D);
                _ -> erlang:raise(Class, curve_tun_log:reason(Reason), curve_tun_log:stack(Stack))
            end
    end.

-spec of_stream(term(), gen_statem:event_type(), term(), connected | closing, #data{}) -> gen_statem:event_handler_result(atom()).
of_stream(unhandled, Type, Event, connected, D) -> connected(Type, Event, D);
of_stream(unhandled, Type, Event, closing, D) -> common(Type, Event, closing, D);
of_stream({over, Reason, D}, _Type, _Event, _State, _D) -> over(Reason, D);
of_stream({stay, D}, _Type, _Event, _State, _D) -> stay(D);
of_stream(Result, _Type, _Event, _State, _D) -> Result.

-spec init(pid()) -> {ok, ready, #data{}}.
init(Controller) ->
    process_flag(trap_exit, true),
    {ok, ready, #data{controller = {Controller, monitor(process, Controller)},
                      receivers = curve_tun_receivers:new(false, messages), linger = none}}.

-spec terminate(term(), atom(), #data{}) -> ok.
terminate(Reason, State, D) ->
    %% Whatever is wrong with the data, the crash report must not show it.
    _ = try curve_tun_connection_told:ended(Reason, State, D) catch _:_ -> failed end,
    _ = try release(D) catch _:_ -> failed end,
    curve_tun_log:forget_mailbox().

-spec release(#data{}) -> ok.
release(#data{socket = Socket, nif = Nif, sender = Sender}) ->
    _ = Nif =:= undefined orelse curve_tun_nif:close(Nif),
    _ = Socket =:= undefined orelse Sender =:= undefined orelse curve_tun_linger:await_sender(Socket, Nif),
    _ = Socket =:= undefined orelse curve_tun_linger:close(Socket),
    ok.

%% A state left by an earlier version is upgraded here.
-spec code_change(term(), atom(), #data{}, term()) -> {ok, atom(), #data{}}.
code_change(_OldVsn, State, D, _Extra) ->
    {ok, State, D}.

%% Leaves out messages and data in flight.
-spec format_status(gen_statem:format_status()) -> gen_statem:format_status().
format_status(Status) ->
    curve_tun_log:status(data, fun shown/1, Status).

-spec shown(#data{}) -> map().
shown(#data{controller = Controller, socket = Socket, role = Role, receivers = Rx}) ->
    #{controller => Controller, socket => Socket, role => Role,
      active => curve_tun_receivers:active(Rx), waiting_bytes => curve_tun_receivers:bytes(Rx)}.

%%% connected

-spec connected(gen_statem:event_type(), term(), #data{}) -> gen_statem:event_handler_result(atom()).
%% Messages may have come with the last packet of the handshake, and the peer's end of stream after
%% them.
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
%% The socket ended without a message.
connected(info, {'EXIT', Socket, _}, #data{socket = Socket} = D) ->
    over(closed, D);
%% Callers that the sender has not answered must not wait any longer.
connected(info, {'EXIT', Sender, _}, #data{sender = {Sender, _}} = D) ->
    {stop, normal, told(crashed, D#data{sender = undefined})};
%% The peer reads no more, but data it sent earlier may still wait in the socket, which then reports
%% its end.
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
    %% No receiver may wait for messages that cannot come.
    _ = curve_tun_receivers:bytes(Rx) =/= 0 orelse curve_tun_handles:is_current(Nif) orelse curve_tun_request:reloaded(self()),
    {keep_state, resume(D#data{receivers = curve_tun_receivers:recv(From, 0, Timeout, Rx)})};
connected({call, From}, {recv, Length, _Timeout}, _D) ->
    {keep_state_and_data, [{reply, From, {error, {bad_length, Length}}}]};
connected({call, From}, {send_large, _}, _D) ->
    {keep_state_and_data, [{reply, From, {error, emsgsize}}]};
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

%% Opens all bytes received, in portions.
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

%% Resumes reading once the waiting messages have dropped to half of the mark.
-spec resume(#data{}) -> #data{}.
resume(#data{reader = Reader, receivers = Rx, high_water = HighWater} = D) ->
    D#data{reader = curve_tun_reader:resume(curve_tun_receivers:bytes(Rx) =< HighWater div 2, Reader)}.

-spec shut_down(read | write | read_write, gen_statem:from(), #data{}) -> gen_statem:event_handler_result(atom()).
shut_down(read, From, #data{receivers = Rx} = D) ->
    gen_statem:reply(From, ok),
    {keep_state, D#data{receivers = curve_tun_receivers:end_with(closed, Rx)}};
shut_down(write, From, #data{nif = Nif}) ->
    curve_tun_nif:end_sending(Nif),
    %% The end goes out after all data sent before. Waiting for that here would block receiving.
    {keep_state_and_data, [{reply, From, ok}, {{timeout, end_writing}, 0, flush}]};
shut_down(read_write, From, D) ->
    gen_statem:reply(From, ok),
    linger(D#data{receivers = curve_tun_receivers:end_with(closed, D#data.receivers)}).

%%% closed: earlier messages can still be received; the socket may still be delivering data

%% Ends the connection, with reason `closed' for an orderly end. The process stays while there is
%% anything left to deliver.
-spec over(curve_tun_nif:reason(), #data{}) -> gen_statem:event_handler_result(atom()).
over(Reason, D) ->
    stay(told(Reason, D)).

%% Ends the connection at once, and reports the reason to whoever listens.
-spec told(curve_tun_nif:reason(), #data{}) -> #data{}.
told(Reason, #data{socket = Socket, nif = Nif, receivers = Rx} = D0) ->
    curve_tun_connection_told:noted(Reason, D0),
    {Tell, D} = curve_tun_connection_told:closing(Reason, D0),
    curve_tun_nif:close(Nif),
    curve_tun_linger:close(Socket),
    Ended = curve_tun_receivers:end_with(Reason, Rx),
    Left = curve_tun_receivers:deliver([], controller(D), Ended),
    Tell(),
    D#data{socket = undefined, receivers = Left}.

%% The NIF's module was deleted and loaded again: the connection, or what it needs for its
%% handshake, belongs to the previous instance. Nothing can be saved but the messages already
%% received.
-spec nif_is_gone(gen_statem:event_type(), term(), atom(), #data{}) -> gen_statem:event_handler_result(atom()).
nif_is_gone(Type, _Event, State, #data{sender = Sender} = D) ->
    _ = [curve_tun_sender:look_again(Pid) || {Pid, _} <- [Sender]],
    nif_is_gone(Type, State, D).

-spec nif_is_gone(gen_statem:event_type(), atom(), #data{}) -> gen_statem:event_handler_result(atom()).
nif_is_gone(_Type, _State, #data{linger = Linger}) when Linger =/= none ->
    {stop, normal};
nif_is_gone(Type, State, #data{socket = Socket, receivers = Rx, listener = Listener} = D0) ->
    IsOpen = lists:member(State, [connected, closing]),
    D = case IsOpen of true -> curve_tun_connection_told:closed(closed, D0); false -> D0 end,
    _ = [gen_statem:reply(From, {error, closed}) || {call, From} <- [Type]],
    %% A listener's resources for its clients belong to the previous instance, too.
    _ = [gen_server:cast(Pid, reloaded) || {Pid, _} <- [Listener]],
    _ = Socket =:= undefined orelse curve_tun_linger:close(Socket),
    Ended = curve_tun_receivers:end_with(closed, Rx),
    Left = curve_tun_connection_sending:nobody_waits(D#data{socket = undefined, nif = undefined}),
    case IsOpen orelse State =:= closed of
        true -> stay(Left#data{receivers = curve_tun_receivers:deliver([], controller(D), Ended)});
        false -> curve_tun_connection_setup:handshake_failed(closed, Left)
    end.

-spec stay(#data{}) -> gen_statem:event_handler_result(atom()).
stay(#data{receivers = Rx} = D) ->
    case curve_tun_receivers:is_over(Rx) of
        true -> {stop, normal, D};
        false -> {next_state, closed, D, [{{timeout, idle}, cancel}]}
    end.

%% Closes in order: see `curve_tun_linger'.
-spec linger(#data{}) -> gen_statem:event_handler_result(atom()).
linger(#data{nif = Nif, receivers = Rx, socket = Socket} = D0) ->
    {Tell, D} = curve_tun_connection_told:closing(closed, D0),
    curve_tun_nif:close(Nif),
    Ended = D#data{receivers = curve_tun_receivers:end_with(closed, Rx), linger = curve_tun_linger:start(Socket, Nif)},
    Tell(),
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
    stay(D#data{receivers = curve_tun_receivers:recv(From, 0, Timeout, Rx)});
closed({call, From}, {recv, Length, Timeout}, #data{linger = none, stream = #stream{packet = raw}, receivers = Rx} = D)
  when Length >= 0 ->
    stay(D#data{receivers = curve_tun_receivers:recv(From, Length, Timeout, Rx)});
closed({call, From}, {recv, Length, _}, _D) ->
    {keep_state_and_data, [{reply, From, {error, {bad_length, Length}}}]};
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
%% A hand-over has two steps. First the mode becomes passive, so that the old controller can pass on
%% what is already in its mailbox.
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
    Taken = curve_tun_connection_stream:taken(State, D#data{offer = none}),
    gen_statem:reply(From, ok),
    settled(State, in_mode(Active, set_controller(New, Taken)));
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
    curve_tun_connection_told:watch(D),
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

%% After a change of the active mode: an ended connection may now be finished, a full one may resume
%% reading.
-spec settled(atom(), #data{}) -> gen_statem:event_handler_result(atom()).
settled(closed, D) -> stay(D);
settled(connected, D) -> {keep_state, resume(D)};
settled(_State, D) -> {keep_state, D}.

%% Sets an active mode for a new controller, unless another has been set meanwhile.
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
    curve_tun_connection_told:watch(D),
    D.

%% The controller is gone: the connection ends, and the peer sees it.
-spec controller_gone(atom(), #data{}) -> gen_statem:event_handler_result(atom()).
controller_gone(connected, D) -> linger(D);
controller_gone(closed, #data{linger = Linger}) when Linger =/= none -> keep_state_and_data;
controller_gone(_State, D) -> {stop, normal, D}.
