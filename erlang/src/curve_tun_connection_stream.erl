%%% @private
%%% A connection that carries a stream: what differs from one of messages, while it is connected,
%%% and how it closes. What may be sent and what has come means is decided by the machine in the NIF
%%% (PROTOCOL.md, section 13).
%%%
%%% What the machine has to send, apart from data, is written by the connection's sender
%%% (`curve_tun_connection_sending'), so that a peer that does not read never blocks receiving. Only
%%% OPEN, before which nothing is sent, is written by the connection itself.
-module(curve_tun_connection_stream).

-include("curve_tun_connection.hrl").

-export([new/3, event/4, open/2, opened_by/1, taken/2, refuse/1]).
-export_type([came/0]).

%% What came, and whether the machine has something to send for it.
-type came() :: {Items :: [binary() | opened | finished], ok | curve_tun_nif:reason(), IsDue :: boolean()}.
%% `over' and `stay' are left to `curve_tun_connection'.
-type result() :: gen_statem:event_handler_result(atom()) | {over, curve_tun_nif:reason(), #data{}} | {stay, #data{}}.

%% An end that has finished waits this long for the peer to finish before it gives up.
-define(PEER_END, 2000).
%% What is still to be written has to make progress within this time, which is looked at so often.
-define(STALL, 5000).
-define(STEP, 20).
%% The longest length of a recv, as in gen_tcp.
-define(LENGTH_MAX, 16#4000000).

%% Has a connection carry the stream that its options name, if they do.
-spec new(curve_tun_nif:connection(), client | server, curve_tun_options:options()) -> none | #stream{}.
new(Nif, Role, #{packet := Packet} = Options) ->
    ok = curve_tun_nif:stream_begin(Nif, Role, Packet, maps:get(packet_size, Options, 16#1000000), maps:get(service, Options, <<>>)),
    #stream{packet = Packet};
new(_Nif, _Role, _Options) ->
    none.

%% Opens all bytes received, in portions.
-spec open(binary(), curve_tun_nif:connection()) -> came().
open(Bytes, Nif) ->
    open(Bytes, Nif, [], false).

-spec open(binary(), curve_tun_nif:connection(), [[binary() | opened | finished]], boolean()) -> came().
open(Bytes, Nif, Acc, WasDue) ->
    case curve_tun_nif:stream_open(Nif, Bytes) of
        {Items, Rest, ok, IsDue} when Rest =/= <<>> -> open(Rest, Nif, [Items | Acc], WasDue orelse IsDue);
        {Items, _Rest, Status, IsDue} -> {lists:append(lists:reverse([Items | Acc])), Status, WasDue orelse IsDue};
        {error, Reason} -> {lists:append(lists:reverse(Acc)), Reason, WasDue}
    end.

%% Sends a client's OPEN, or that of a server whose program has the connection already.
-spec opened_by(#data{}) -> #data{}.
opened_by(#data{role = client} = D) -> curve_tun_connection_sending:write_due(D);
opened_by(#data{offer = none} = D) -> accepted(D);
opened_by(D) -> D.

%% A process has accepted the connection: so has its end of the stream.
-spec taken(atom(), #data{}) -> #data{}.
taken(connected, #data{stream = #stream{}} = D) -> accepted(D);
taken(_State, D) -> D.

-spec accepted(#data{}) -> #data{}.
accepted(#data{nif = Nif} = D) ->
    case curve_tun_nif:stream_accept(Nif) of
        ok -> curve_tun_connection_sending:write_due(D);
        %% The stream has ended meanwhile; why is told by what came.
        {error, _} -> D
    end.

%% Refuses a client whose OPEN breaks a rule: ABORT says so, and has to arrive.
-spec refuse(#data{}) -> gen_statem:event_handler_result(atom()).
refuse(#data{receivers = Rx} = D) ->
    wind_down(curve_tun_connection_sending:write_due(D#data{receivers = curve_tun_receivers:drop(Rx)})).

-spec event(gen_statem:event_type(), term(), connected | closing, #data{}) -> result() | unhandled.
event(Type, Event, connected, D) -> connected(Type, Event, D);
event(Type, Event, closing, D) -> closing(Type, Event, D).

%%% connected

-spec connected(gen_statem:event_type(), term(), #data{}) -> result() | unhandled.
connected(internal, {early, Bytes, Ended}, #data{nif = Nif} = D) ->
    came(open(Bytes, Nif), Ended, D);
connected(internal, {items, Came, Ended}, D) ->
    came(Came, Ended, D);
connected(info, {tcp, Socket, Bytes}, #data{socket = Socket, nif = Nif, reader = Reader} = D) ->
    came(open(Bytes, Nif), false, D#data{reader = curve_tun_reader:came(byte_size(Bytes), Reader)});
connected(info, {tcp_closed, Socket}, #data{socket = Socket} = D) ->
    transport_ended(D);
%% The socket ended without a message.
connected(info, {'EXIT', Socket, _}, #data{socket = Socket} = D) ->
    transport_ended(D);
connected(info, {Ref, Result}, #data{stream = #stream{finished = {asked, Ref, _}}} = D0) ->
    case curve_tun_connection_sending:finish_written(Result, D0) of
        #data{stream = #stream{finished = yes, ended = true}} = D -> both_ended(D);
        D -> {keep_state, D}
    end;
connected(info, {timeout, Timer, open}, #data{stream = #stream{waiting = Waiting} = S} = D) ->
    {Late, Rest} = lists:partition(fun({_, _, T}) -> T =:= Timer end, Waiting),
    _ = [gen_statem:reply(From, {error, timeout}) || {From, _, _} <- Late],
    {keep_state, D#data{stream = S#stream{waiting = Rest}}};
connected(cast, {send_failed, timeout}, D) ->
    over(send_timeout, D);
connected(cast, {send_failed, Reason}, D) when Reason =/= closed ->
    over(Reason, D);
connected({call, From}, {send, Messages}, D) ->
    {keep_state, curve_tun_connection_sending:send(From, Messages, D)};
connected({call, From}, {send_large, Messages}, D) ->
    {keep_state, curve_tun_connection_sending:send(From, Messages, D)};
connected({call, From}, {recv, Timeout}, D) ->
    {keep_state, resume(recv(From, 0, Timeout, D))};
connected({call, From}, {recv, Length, Timeout}, D) ->
    {keep_state, resume(recv(From, Length, Timeout, D))};
connected({call, From}, {shutdown, write}, D) ->
    {keep_state, curve_tun_connection_sending:finish([From], D)};
connected({call, From}, {shutdown, read_write}, D) ->
    close(From, D);
connected({call, From}, close, D) ->
    close(From, D);
connected({call, From}, {abort, Code}, D) ->
    gen_statem:reply(From, ok),
    given_up(Code, D);
connected(info, {'DOWN', Ref, process, _, _}, #data{controller = {_, Ref}} = D) ->
    given_up(0, D);
connected(info, {'DOWN', Ref, process, _, _}, #data{offer = {_, {_, Ref}}} = D) ->
    given_up(0, D);
connected(_Type, _Event, _D) ->
    unhandled.

-spec came(came(), TransportEnded :: boolean(), #data{}) -> result().
came({Items, Status, IsDue}, TransportEnded, D0) ->
    Delivered = delivered(Items, D0),
    D = case lists:member(opened, Items) of
            true -> curve_tun_connection_sending:opened(Delivered);
            false -> Delivered
        end,
    case {Status, IsDue} of
        {ok, false} -> go_on(TransportEnded, D);
        {ok, true} -> {_Ref, Flushed} = curve_tun_connection_sending:flush(D), go_on(TransportEnded, Flushed);
        %% ABORT says what the peer has done wrong.
        {Reason, true} -> failed(Reason, D);
        {Reason, false} -> over(Reason, D)
    end.

-spec delivered([binary() | opened | finished], #data{}) -> #data{}.
delivered(Items, #data{stream = S, receivers = Rx0} = D) ->
    Rx = curve_tun_receivers:deliver([Data || Data <- Items, is_binary(Data)], controller(D), Rx0),
    case lists:member(finished, Items) of
        true ->
            Finished = curve_tun_receivers:deliver([], controller(D), curve_tun_receivers:finish(Rx)),
            D#data{receivers = Finished, stream = S#stream{ended = true}};
        false ->
            D#data{receivers = Rx}
    end.

-spec go_on(TransportEnded :: boolean(), #data{}) -> result().
go_on(_, #data{stream = #stream{finished = yes, ended = true}} = D) -> both_ended(D);
go_on(true, D) -> transport_ended(D);
go_on(false, #data{idle_timer = true} = D) -> {keep_state, read_more(D#data{moved = true})};
go_on(false, D) ->
    {keep_state, read_more(D#data{idle_timer = true, moved = false}), [{{timeout, idle}, ?IDLE, idle}]}.

-spec read_more(#data{}) -> #data{}.
read_more(#data{reader = Reader, receivers = Rx, high_water = HighWater} = D) ->
    D#data{reader = curve_tun_reader:read_more(curve_tun_receivers:pressure(Rx) >= HighWater, Reader)}.

-spec resume(#data{}) -> #data{}.
resume(#data{reader = Reader, receivers = Rx, high_water = HighWater} = D) ->
    D#data{reader = curve_tun_reader:resume(curve_tun_receivers:pressure(Rx) =< HighWater div 2, Reader)}.

-spec controller(#data{}) -> {pid(), curve_tun:socket()}.
controller(#data{controller = {Pid, _}, self = Self}) -> {Pid, Self}.

%% A transport that ends before the peer has finished was cut, whoever did so.
-spec transport_ended(#data{}) -> result().
transport_ended(#data{nif = Nif, failure = Failure} = D) ->
    case curve_tun_nif:stream_transport_ended(Nif) of
        %% The peer was faster than the sender's answer.
        finished -> over(closed, curve_tun_connection_sending:finish_written(ok, D));
        truncated when Failure =/= none, Failure =/= econnreset -> over(Failure, D);
        closed when Failure =/= none -> over(Failure, D);
        Reason -> over(Reason, D)
    end.

-spec recv(gen_statem:from(), integer(), timeout(), #data{}) -> #data{}.
recv(From, Length, Timeout, #data{stream = #stream{packet = Packet}, receivers = Rx, nif = Nif} = D) ->
    case Length =:= 0 orelse (Packet =:= raw andalso Length > 0 andalso Length =< ?LENGTH_MAX) of
        true ->
            %% No receiver may wait for data that cannot come.
            _ = curve_tun_receivers:bytes(Rx) =/= 0 orelse Nif =:= undefined orelse curve_tun_handles:is_current(Nif)
                orelse curve_tun_request:reloaded(self()),
            D#data{receivers = curve_tun_receivers:recv(From, Length, Timeout, Rx)};
        false ->
            gen_statem:reply(From, {error, {bad_length, Length}}),
            D
    end.

%%% The end

%% Ends the connection at once.
-spec over(curve_tun_nif:reason(), #data{}) -> result().
over(Reason, D) ->
    {over, Reason, curve_tun_connection_sending:nobody_waits(D)}.

%% Both directions have ended as they should.
-spec both_ended(#data{}) -> result().
both_ended(D0) ->
    {Tell, D} = told(closed, D0),
    Closing = wind_down(D),
    Tell(),
    Closing.

%% The peer has broken a rule, and is told so.
-spec failed(curve_tun_nif:reason(), #data{}) -> result().
failed(Reason, D0) ->
    {Tell, Told} = told(Reason, D0),
    {Ref, D} = curve_tun_connection_sending:flush(Told),
    Tell(),
    written_out({abort, Ref}, D).

%% Tells whoever listens why the connection has ended. The event handler, which may take its time,
%% is told by the function.
-spec told(curve_tun_nif:reason(), #data{}) -> {fun(() -> ok), #data{}}.
told(Reason, #data{receivers = Rx} = D0) ->
    curve_tun_connection_told:noted(Reason, D0),
    {Tell, D} = curve_tun_connection_told:closing(Reason, curve_tun_connection_sending:nobody_waits(D0)),
    Ended = curve_tun_receivers:deliver([], controller(D), curve_tun_receivers:end_with(Reason, Rx)),
    {Tell, D#data{receivers = Ended}}.

%% The program gives the connection up, and is told nothing of it any more.
-spec told_of_close(#data{}) -> {fun(() -> ok), #data{}}.
told_of_close(#data{receivers = Rx} = D) ->
    curve_tun_connection_told:closing(closed, curve_tun_connection_sending:nobody_waits(D#data{receivers = curve_tun_receivers:drop(Rx)})).

%% Finishes, and drops what still comes until the peer has finished.
-spec close(gen_statem:from(), #data{}) -> result().
close(From, #data{nif = Nif} = D0) ->
    _ = curve_tun_nif:stream_close(Nif),
    gen_statem:reply(From, ok),
    {Tell, Told} = told_of_close(D0),
    D = read_more(curve_tun_connection_sending:finish([], Told)),
    Tell(),
    written_out(finish, D).

-spec given_up(non_neg_integer(), #data{}) -> result().
given_up(Code, D) ->
    {Tell, Told} = told_of_close(D),
    Closing = abort(Code, Told),
    Tell(),
    Closing.

%% Gives the stream up, as far as it has not ended.
-spec abort(non_neg_integer(), #data{}) -> result().
abort(Code, #data{nif = Nif} = D0) ->
    _ = curve_tun_nif:stream_abort(Nif, Code),
    {Ref, D} = curve_tun_connection_sending:flush(D0),
    written_out({abort, Ref}, D).

%% Waits until the sender has written END or ABORT.
-spec written_out(finish | {abort, reference()}, #data{}) -> result().
written_out(Closing, #data{stream = S, socket = Socket, nif = Nif} = D) ->
    Progress = {curve_tun_linger:pending(Socket, Nif), curve_tun_time:deadline(?STALL)},
    settled({next_state, closing, D#data{stream = S#stream{closing = Closing, progress = Progress}},
             [{{timeout, idle}, cancel}, {state_timeout, ?STEP, progress}]}).

%% What is to be written may have been already.
-spec settled(result()) -> result().
settled({next_state, closing, #data{stream = #stream{closing = finish, finished = yes}} = D, Actions}) ->
    {next_state, closing, D, [{{timeout, closing}, ?PEER_END, peer_end} | Actions]};
settled(Result) ->
    Result.

%% Nothing is sealed or opened any more. Closes the transport in order: see `curve_tun_linger'.
-spec wind_down(#data{}) -> gen_statem:event_handler_result(atom()).
wind_down(#data{socket = Socket, nif = Nif, role = Role, stream = S} = D) ->
    curve_tun_nif:close(Nif),
    {next_state, closing, D#data{linger = curve_tun_linger:start(Socket, Nif, Role), stream = S#stream{closing = over}},
     [{{timeout, idle}, cancel}, {{timeout, handshake}, cancel}, {{timeout, call}, cancel}, {{timeout, closing}, cancel},
      {state_timeout, 0, linger}]}.

%% Closes the transport at once.
-spec gone(#data{}) -> result().
gone(#data{socket = Socket, nif = Nif} = D) ->
    curve_tun_nif:close(Nif),
    curve_tun_linger:close(Socket),
    {stay, D#data{socket = undefined, linger = none}}.

%%% closing: what is left is written and the transport closed in order; earlier data can still be
%%% received

-spec closing(gen_statem:event_type(), term(), #data{}) -> result() | unhandled.
closing(state_timeout, linger, #data{linger = Linger} = D) ->
    case curve_tun_linger:due(Linger) of
        {wait, Ms, Next} -> {keep_state, D#data{linger = Next}, [{state_timeout, Ms, linger}]};
        over -> gone(D)
    end;
closing(state_timeout, progress, #data{socket = Socket, nif = Nif, stream = #stream{progress = {Before, Deadline}} = S} = D) ->
    Pending = curve_tun_linger:pending(Socket, Nif),
    Progress = case Pending < Before of
                   true -> {Pending, curve_tun_time:deadline(?STALL)};
                   false -> {Pending, Deadline}
               end,
    case curve_tun_time:left(element(2, Progress)) of
        0 -> gone(D);
        _ -> {keep_state, D#data{stream = S#stream{progress = Progress}}, [{state_timeout, ?STEP, progress}]}
    end;
closing({timeout, closing}, peer_end, D) ->
    abort(0, D);
closing(info, {Ref, Result}, #data{stream = #stream{closing = finish, finished = {asked, Ref, _}}} = D0) ->
    D = curve_tun_connection_sending:finish_written(Result, D0),
    case Result of
        ok when D#data.stream#stream.ended -> wind_down(D);
        ok -> {keep_state, D, [{state_timeout, cancel}, {{timeout, closing}, ?PEER_END, peer_end}]};
        {error, _} -> wind_down(D)
    end;
closing(info, {Ref, _}, #data{stream = #stream{closing = {abort, Ref}}} = D) ->
    wind_down(D);
closing(info, {tcp, Socket, Bytes}, #data{socket = Socket, nif = Nif, reader = Reader, stream = #stream{closing = finish}} = D) ->
    dropped(open(Bytes, Nif), D#data{reader = curve_tun_reader:came(byte_size(Bytes), Reader)});
closing(info, {tcp, _, _}, _D) ->
    keep_state_and_data;
closing(info, {tcp_passive, Socket}, #data{socket = Socket, reader = Reader, stream = #stream{closing = finish}} = D) ->
    {keep_state, read_more(D#data{reader = curve_tun_reader:passive(Reader)})};
closing(info, {tcp_passive, _}, #data{linger = Linger}) when Linger =/= none ->
    curve_tun_linger:passive(Linger),
    keep_state_and_data;
closing(info, {tcp_passive, _}, _D) ->
    keep_state_and_data;
closing(info, {tcp_closed, Socket}, #data{socket = Socket} = D) ->
    gone(D);
closing(info, {'EXIT', Socket, _}, #data{socket = Socket} = D) ->
    gone(D);
closing(info, {'DOWN', Ref, process, _, _}, #data{controller = {_, Ref}, receivers = Rx} = D) ->
    {keep_state, D#data{receivers = curve_tun_receivers:drop(Rx)}};
closing(info, {'DOWN', Ref, process, _, _}, #data{offer = {_, {_, Ref}}, receivers = Rx} = D) ->
    {keep_state, D#data{receivers = curve_tun_receivers:drop(Rx)}};
closing(cast, {send_failed, _}, D) ->
    gone(D);
closing({call, From}, {recv, Timeout}, D) ->
    {keep_state, recv(From, 0, Timeout, D)};
closing({call, From}, {recv, Length, Timeout}, D) ->
    {keep_state, recv(From, Length, Timeout, D)};
closing({call, From}, Request, #data{receivers = Rx} = D) when Request =:= close; element(1, Request) =:= abort ->
    {keep_state, D#data{receivers = curve_tun_receivers:drop(Rx)}, [{reply, From, ok}]};
closing({call, _From}, Request, _D)
  when Request =:= pause; Request =:= take; element(1, Request) =:= controlling_process;
       element(1, Request) =:= offer; element(1, Request) =:= set_active ->
    unhandled;
closing({call, From}, _Request, _D) ->
    {keep_state_and_data, [{reply, From, {error, closed}}]};
closing(_Type, _Event, _D) ->
    unhandled.

%% Drops what came after the close, but for the peer's end.
-spec dropped(came(), #data{}) -> result().
dropped({Items, Status, IsDue}, #data{stream = #stream{ended = Ended, finished = Finished} = S} = D0) ->
    D = D0#data{stream = S#stream{ended = Ended orelse lists:member(finished, Items)}},
    case {Status, IsDue} of
        {ok, _} when D#data.stream#stream.ended, Finished =:= yes -> wind_down(D);
        {ok, false} -> {keep_state, read_more(D)};
        {ok, true} -> {_Ref, Flushed} = curve_tun_connection_sending:flush(D), {keep_state, read_more(Flushed)};
        {_Reason, true} -> {Ref, Flushed} = curve_tun_connection_sending:flush(D), written_out({abort, Ref}, Flushed);
        {_Reason, false} -> gone(D)
    end.
