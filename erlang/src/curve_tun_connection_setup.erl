%%% @private
%%% A connection until it is connected. In `ready' it waits for its socket and the handshake, and at
%%% a server's end for the hello; then the handshake is in progress. In `opening' a server's end
%%% waits until the client has opened its stream.
-module(curve_tun_connection_setup).

-include("curve_tun_connection.hrl").

-export([event/4, handshake_failed/2]).

-type result() :: gen_statem:event_handler_result(atom()).

%% Handles an event in a state before `connected'. Returns `unhandled' for events that mean the same
%% in every state.
-spec event(gen_statem:event_type(), term(), atom(), #data{}) -> result() | unhandled.
event(Type, Event, ready, D) -> ready(Type, Event, D);
event(Type, Event, opening, D) -> opening(Type, Event, D);
event(Type, Event, State, D) -> shaking(Type, Event, State, D).

-spec ready(gen_statem:event_type(), term(), #data{}) -> result() | unhandled.
%% From a listener, which is the controller for now.
ready({call, From}, {attach, Socket, TcpOptions, Prepared}, #data{socket = undefined, controller = {Listener, _}} = D0) ->
    case attached(Socket, TcpOptions, Prepared, D0) of
        {ok, #data{self = Self} = D} ->
            Watched = D#data{listener = {Listener, monitor(process, Listener)}},
            {keep_state, held(Watched), [{reply, From, {ok, Self}}]};
        {{error, Reason}, D} -> {stop_and_reply, normal, [{reply, From, {error, Reason}}], D}
    end;
%% To a process that accepts transports.
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

-spec attached(gen_tcp:socket(), [term()], curve_tun_connection:prepared(), #data{}) -> {ok | {error, term()}, #data{}}.
attached(Socket, TcpOptions, Prepared, D0) ->
    #{role := Given, options := #{active := Active, receive_high_water := HighWater, buffer := Buffer} = Options} = Prepared,
    Nif = curve_tun_nif:connection_new(),
    Role = element(1, Given),
    Stream = curve_tun_connection_stream:new(Nif, Role, Options),
    Kind = case Stream of #stream{packet = raw} -> bytes; _ -> messages end,
    D = D0#data{self = {curve_tun_socket, self(), Socket, Nif}, socket = Socket, nif = Nif, prepared = Prepared,
                role = Role, stream = Stream, peer = peer(Socket, Prepared), events = curve_tun_events:handler(Options),
                since = curve_tun_time:now_ms(), receivers = curve_tun_receivers:new(Active, Kind), high_water = HighWater,
                reader = curve_tun_reader:new(Socket, Buffer)},
    ok = curve_tun_log:label({curve_tun_connection, D#data.role, D#data.peer}),
    curve_tun_connection_told:begin_watch(D),
    {inet:setopts(Socket, TcpOptions), D}.

%% The time that a client waits to be accepted does not count towards its timeout.
-spec timer(curve_tun_connection:prepared()) -> {{timeout, handshake}, timeout(), expired}.
timer(#{options := #{handshake_timeout := Most}}) ->
    {{timeout, handshake}, Most, expired}.

-spec peer(gen_tcp:socket(), curve_tun_connection:prepared()) -> curve_tun_log:peer().
peer(_Socket, #{peer := Peer}) ->
    Peer;
peer(Socket, _Prepared) ->
    case inet:peername(Socket) of
        {ok, Peer} -> Peer;
        {error, _} -> unknown
    end.

%% A listener's connection is passive until a process has accepted it.
-spec held(#data{}) -> #data{}.
held(#data{receivers = Rx} = D) ->
    {ok, Passive} = curve_tun_receivers:set_active(false, Rx),
    D#data{offer = {curve_tun_receivers:active(Rx), nobody}, receivers = Passive}.

-spec attach_and_shake(gen_statem:from(), gen_tcp:socket(), [term()], curve_tun_connection:prepared(), curve_tun_time:deadline(), #data{}) ->
          result().
attach_and_shake(From, Socket, TcpOptions, Prepared, Deadline, D0) ->
    case attached(Socket, TcpOptions, Prepared, D0) of
        {ok, D} -> called(From, curve_tun_time:left(Deadline), Prepared, D, [timer(Prepared)]);
        {{error, Reason}, D} -> {stop_and_reply, normal, [{reply, From, {error, Reason}}], D}
    end.

-spec called(gen_statem:from(), timeout(), curve_tun_connection:prepared(), #data{}, [term()]) -> result().
called(From, Timeout, Prepared, D, Actions) ->
    Timer = {{timeout, call}, Timeout, expired},
    begin_handshake(Prepared, D#data{waiting = From}, [Timer | Actions]).

-spec begin_handshake(curve_tun_connection:prepared(), #data{}, [term()]) -> result().
begin_handshake(#{role := Role, providers := Providers}, #data{socket = Socket, nif = Nif, peer = Peer} = D, Actions) ->
    shaken(curve_tun_handshake:start(Role, Providers, Peer, Socket, Nif), D#data{prepared = undefined}, Actions).

-spec shaken(curve_tun_handshake:step(), #data{}, [term()]) -> result().
shaken({read, State, Handshake}, D, Actions) -> read_on(D#data{handshake = Handshake}, State, Actions);
shaken({wait, more, State, Handshake}, D, Actions) -> read_on(D#data{handshake = Handshake}, State, Actions);
shaken({wait, enough, State, Handshake}, D, Actions) -> {next_state, State, D#data{handshake = Handshake}, Actions};
shaken({connected, Came, Ended}, D, _Actions) -> established(Came, Ended, D);
shaken({error, Reason}, D, _Actions) -> handshake_failed(Reason, D).

%% Asks for the next bytes of the handshake.
-spec read_on(#data{}, atom(), [term()]) -> result().
read_on(#data{socket = Socket} = D, State, Actions) ->
    %% The socket outlives the peer's end of stream, so that its cause can be determined.
    case inet:setopts(Socket, [{exit_on_close, false}, {active, once}]) of
        ok -> {next_state, State, D, Actions};
        {error, _} -> ended_in_handshake(D#data{failure = failure(D)})
    end.

%% Handles a transport that ended before the handshake did.
-spec ended_in_handshake(#data{}) -> result().
ended_in_handshake(#data{handshake = Handshake, failure = Failure} = D) when Handshake =/= undefined ->
    shaken(curve_tun_handshake:ended(Failure, Handshake), D, []);
ended_in_handshake(#data{failure = none} = D) ->
    handshake_failed(closed, D);
ended_in_handshake(#data{failure = Failure} = D) ->
    handshake_failed(Failure, D).

%% Returns the error that the transport failed with, or `none' if it ended in order.
-spec failure(#data{}) -> none | atom().
failure(#data{failure = none, socket = Socket}) ->
    case curve_tun_handshake:transport_failure(Socket) of
        closed -> none;
        Reason -> Reason
    end;
failure(#data{failure = Failure}) ->
    Failure.

-spec shaking(gen_statem:event_type(), term(), atom(), #data{}) -> result() | unhandled.
shaking(info, {tcp, Socket, Bytes}, _State, #data{socket = Socket, handshake = Handshake} = D) ->
    shaken(curve_tun_handshake:bytes(Bytes, Handshake), D, []);
shaking(info, {tcp_closed, Socket}, _State, #data{socket = Socket} = D) ->
    ended_in_handshake(D);
%% The socket ended without a message.
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
shaking(cast, {refuse, Reason}, _State, D) ->
    handshake_failed(Reason, D);
shaking(_Type, _Event, _State, _D) ->
    unhandled.

-spec unless_ignored(curve_tun_handshake:step() | ignore, #data{}) -> result().
unless_ignored(ignore, _D) -> keep_state_and_data;
unless_ignored(Step, D) -> shaken(Step, D, []).

-spec handshake_failed(curve_tun_nif:reason(), #data{}) -> result().
handshake_failed(Reason, D0) ->
    D = curve_tun_connection_told:refused(Reason, D0),
    _ = report({error, Reason}, D),
    {stop, normal, D#data{waiting = undefined}}.

-spec report(ok | {error, curve_tun_nif:reason()}, #data{}) -> ok.
report(_Result, #data{waiting = undefined}) -> ok;
report(ok, #data{waiting = From, self = Self}) -> gen_statem:reply(From, {ok, Self});
report(Error, #data{waiting = From}) -> gen_statem:reply(From, Error).

-spec established(binary(), Ended :: boolean(), #data{}) -> result().
established(Came, Ended, #data{socket = Socket, nif = Nif} = D) ->
    _ = inet:setopts(Socket, [{exit_on_close, true}, {active, false}]),
    case inet:getstat(Socket, [recv_oct, send_oct]) of
        {ok, [{recv_oct, Read}, {send_oct, Taken}]} ->
            Reader = curve_tun_reader:had(Read, D#data.reader),
            All = <<Came/binary, (on_its_way(Socket))/binary>>,
            established(curve_tun_nif:established(Nif, Taken), All, Ended, D#data{reader = Reader});
        {error, _} ->
            ended_in_handshake(D#data{failure = failure(D), handshake = undefined})
    end.

%% Bytes that the socket delivered, and counted, meanwhile. They are the last, since the socket is
%% passive now.
-spec on_its_way(gen_tcp:socket()) -> binary().
on_its_way(Socket) ->
    receive {tcp, Socket, Bytes} -> Bytes
    after 0 -> <<>>
    end.

-spec established(ok | {error, atom()}, binary(), boolean(), #data{}) -> result().
established(ok, Came, Ended, #data{stream = none} = D) ->
    complete({early, Came, Ended}, D);
established(ok, Came, Ended, #data{role = client} = D) ->
    complete({early, Came, Ended}, curve_tun_connection_stream:opened_by(D));
established(ok, Came, Ended, #data{nif = Nif} = D) ->
    opened(curve_tun_connection_stream:open(Came, Nif), Ended, D#data{handshake = undefined});
established({error, Reason}, _Came, _Ended, D) ->
    handshake_failed(Reason, D).

-spec complete(tuple(), #data{}) -> result().
complete(Next, #data{listener = Listener} = D0) ->
    D = D0#data{waiting = undefined, handshake = undefined, listener = none, since = curve_tun_time:now_ms()},
    curve_tun_connection_told:watch(D),
    curve_tun_connection_told:established(D0),
    ok = report(ok, D0),
    ok = handshake_over(Listener),
    {next_state, connected, D, [{{timeout, handshake}, cancel}, {{timeout, call}, cancel}, {next_event, internal, Next}]}.

-spec opening(gen_statem:event_type(), term(), #data{}) -> result() | unhandled.
opening(info, {tcp, Socket, Bytes}, #data{socket = Socket, nif = Nif, reader = Reader} = D) ->
    Came = curve_tun_connection_stream:open(Bytes, Nif),
    opened(Came, false, D#data{reader = curve_tun_reader:came(byte_size(Bytes), Reader)});
opening(info, {tcp_passive, Socket}, #data{socket = Socket, reader = Reader} = D) ->
    opened({[], ok, false}, false, D#data{reader = curve_tun_reader:passive(Reader)});
opening(Type, Event, D) ->
    shaking(Type, Event, opening, D).

%% Handles what came of a client's stream: the handshake is complete when the client has opened.
-spec opened(curve_tun_connection_stream:came(), Ended :: boolean(), #data{}) -> result().
opened({[opened | Items], Status, IsDue}, Ended, D) ->
    complete({items, {Items, Status, IsDue}, Ended}, curve_tun_connection_stream:opened_by(D));
opened({[], ok, _}, true, D) ->
    ended_in_handshake(D);
opened({[], ok, _}, false, #data{reader = Reader} = D) ->
    {next_state, opening, D#data{reader = curve_tun_reader:read_more(false, Reader)}};
opened({[], Reason, false}, _Ended, D) ->
    handshake_failed(Reason, D);
opened({[], Reason, true}, _Ended, D0) ->
    D = curve_tun_connection_told:refused(Reason, D0),
    _ = report({error, Reason}, D),
    curve_tun_connection_stream:refuse(D#data{waiting = undefined}).

-spec handshake_over(none | {pid(), reference()}) -> ok.
handshake_over(none) ->
    ok;
handshake_over({Listener, Ref}) ->
    demonitor(Ref, [flush]),
    curve_tun_request:handshake_over(Listener).
