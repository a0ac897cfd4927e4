%%% @private
%%% One connection: it owns the socket and the connection of the NIF, and moves bytes between them.
%%%
%%% The states are the seed's: `ready -> initiating -> connected' for a client, `ready -> accepting -> connected' for a
%%% server, `closed' from anywhere. Every secret is on the Rust side of the NIF; what this process holds may be shown,
%%% except messages, which `format_status/1' leaves out.
-module(curve_tun_connection).
-behaviour(gen_statem).

-include_lib("kernel/include/logger.hrl").

-export([start_link/1, socket/2, attach/4, handshake/2, handshake_for/2, give/2, send_failed/2, request/2, wait/1]).
-export([init/1, callback_mode/0, terminate/3, format_status/1]).
-export([ready/3, initiating/3, accepting/3, connected/3, closed/3]).

-export_type([prepared/0]).

%% What a handshake needs, and what the connection is like afterwards.
-type prepared() :: #{role := {client, curve_tun_nif:vault(), curve_tun:public_key()} | {server, curve_tun_nif:server()},
                      providers := curve_tun_provider:providers(),
                      options := curve_tun_options:options()}.

%% A read of this many bytes fills the small buffer that a socket has at first. Then it gets a large one, and is read up
%% to so many times while we open what came; after a smaller read it has the small buffer again.
-define(BULK, 4096).

-record(data, {
    self :: curve_tun:socket(),
    sender :: pid(),
    controller :: {pid(), reference()},
    socket :: gen_tcp:socket() | undefined,
    nif :: curve_tun_nif:connection() | undefined,
    prepared :: prepared() | undefined,
    role :: client | server | undefined,
    %% Whoever waits for the end of the handshake.
    waiting :: {call, gen_statem:from()} | {listener, pid()} | undefined,
    providers = #{} :: curve_tun_provider:providers(),
    %% Who has the request answered: a process, or the NIF's own threads.
    helper :: {pid() | nif, reference()} | undefined,
    %% Bytes that the NIF takes when it has its answer.
    rest = <<>> :: binary(),
    receivers :: curve_tun_receivers:receivers(),
    high_water = 1 :: pos_integer(),
    %% What the socket delivers: one read, several, or, above the high-water mark, none.
    reading = none :: none | once | several,
    %% Whether the last read was a large one, and more are likely to follow.
    bulk = false :: boolean(),
    %% The size of the socket's buffer for such reads.
    buffer = ?BULK :: pos_integer(),
    %% Whether the idle timer runs, and whether anything came since it was set.
    idle_timer = false :: boolean(),
    moved = false :: boolean(),
    broken = false :: boolean(),
    %% What is left to do when closing: see `linger/1'.
    linger :: none | {flush, Pending :: non_neg_integer(), curve_tun_time:deadline()} | drain
}).

-define(READS, 8).
%% After this many idle milliseconds buffers and heap are given back.
-define(IDLE, 1000).
%% A close waits this long for the kernel to take more of what was sent, and then this long for the peer's end.
-define(FLUSH, 5000).
-define(FLUSH_STEP, 10).
-define(DRAIN, 500).
-define(RENEW, 1000).
%% Linux's number for the state of a transport that the peer has ended in order.
-define(CLOSE_WAIT, 8).

%%% Calls

-spec start_link(pid()) -> {ok, pid(), curve_tun:socket()} | {error, term()}.
start_link(Controller) ->
    Tag = make_ref(),
    case gen_statem:start_link(?MODULE, {Controller, self(), Tag}, []) of
        {ok, Pid} -> receive {Tag, Socket} -> {ok, Pid, Socket} end;
        {error, Reason} -> {error, Reason};
        ignore -> {error, ignore}
    end.

%% The socket that programs hold.
-spec socket(pid(), pid()) -> curve_tun:socket().
socket(Connection, Sender) ->
    {curve_tun_socket, Connection, Sender}.

%% Gives a new connection its socket, which is the caller's. The time of the handshake runs from here on.
-spec attach(pid(), gen_tcp:socket(), [term()], prepared()) -> ok | {error, term()}.
attach(Connection, Socket, TcpOptions, Prepared) ->
    case gen_tcp:controlling_process(Socket, Connection) of
        ok -> request(Connection, {attach, Socket, TcpOptions, Prepared});
        {error, Reason} -> {error, Reason}
    end.

-spec handshake(pid(), curve_tun_time:deadline()) -> ok | {error, atom()}.
handshake(Connection, Deadline) ->
    request(Connection, {handshake, Deadline}).

%% Has the handshake done for a listener, which gets `{handshake_over, Connection, ok | {error, Reason}}'.
-spec handshake_for(pid(), pid()) -> ok.
handshake_for(Listener, Connection) ->
    gen_statem:cast(Connection, {handshake, Listener}).

%% A listener gives a connection to the one who accepts it.
-spec give(pid(), pid()) -> ok | {error, closed}.
give(Connection, Controller) ->
    request(Connection, {give, Controller}).

-spec send_failed(pid(), atom()) -> ok.
send_failed(Connection, Reason) ->
    gen_statem:cast(Connection, {send_failed, Reason}).

%% Asks a connection. One that is gone is closed.
-spec request(pid(), term()) -> term().
request(Connection, Request) ->
    ?MODULE:wait(gen_statem:send_request(Connection, Request)).

%% Waits as long as it takes, and takes up new code of this module meanwhile: whoever waited in it for ever would be
%% killed by the second reload.
-spec wait(gen_statem:request_id()) -> term().
wait(RequestId) ->
    case gen_statem:wait_response(RequestId, ?RENEW) of
        {reply, Reply} -> Reply;
        {error, _} -> {error, closed};
        timeout -> ?MODULE:wait(RequestId)
    end.

%%% The process

-spec callback_mode() -> state_functions.
callback_mode() -> state_functions.

-spec init({pid(), pid(), reference()}) -> {ok, ready, #data{}}.
init({Controller, Starter, Tag}) ->
    process_flag(trap_exit, true),
    {ok, Sender} = curve_tun_sender:start_link(Controller),
    Self = socket(self(), Sender),
    Starter ! {Tag, Self},
    {ok, ready, #data{self = Self, sender = Sender, controller = {Controller, monitor(process, Controller)},
                      receivers = curve_tun_receivers:new(false), linger = none}}.

-spec terminate(term(), atom(), #data{}) -> ok.
terminate(_Reason, _State, #data{socket = Socket, nif = Nif} = D) ->
    _ = Nif =:= undefined orelse curve_tun_nif:close(Nif),
    _ = Socket =:= undefined orelse close_socket(Socket),
    _ = stop_helper(D),
    ok.

%% Closing waits for what the kernel has not taken; who ends here has waited for that or gives it up.
-spec close_socket(gen_tcp:socket()) -> ok.
close_socket(Socket) ->
    _ = pending(Socket) =:= 0 orelse inet:setopts(Socket, [{linger, {true, 0}}]),
    gen_tcp:close(Socket).

%% Leaves out messages and what is on its way.
-spec format_status(gen_statem:format_status()) -> gen_statem:format_status().
format_status(Status) ->
    maps:map(fun(data, D) -> shown(D);
                (queue, Queue) -> length(Queue);
                (postponed, Queue) -> length(Queue);
                (log, _) -> [];
                (message, _) -> hidden;
                (reason, Reason) -> shown_reason(Reason);
                (_, Value) -> Value
             end, Status).

-spec shown(#data{}) -> map().
shown(#data{controller = {Controller, _}, socket = Socket, role = Role, receivers = Rx}) ->
    #{controller => Controller, socket => Socket, role => Role,
      active => curve_tun_receivers:active(Rx), waiting_bytes => curve_tun_receivers:bytes(Rx)}.

%% The stack of a failure without its arguments.
-spec shown_reason(term()) -> term().
shown_reason({_Reason, [{M, F, _, _} | _]}) -> {failed_in, M, F};
shown_reason(Reason) when is_atom(Reason) -> Reason;
shown_reason({Class, _Reason, [{M, F, _, _} | _]}) -> {Class, failed_in, M, F};
shown_reason(_) -> hidden.

%%% ready: the socket and the handshake are awaited; a server's end also waits here for the hello

-spec ready(gen_statem:event_type(), term(), #data{}) -> gen_statem:event_handler_result(atom()).
ready({call, From}, {attach, Socket, TcpOptions, #{options := #{handshake_timeout := Most}} = Prepared},
      #data{socket = undefined} = D) ->
    Reply = inet:setopts(Socket, TcpOptions),
    {keep_state, D#data{socket = Socket, prepared = Prepared},
     [{reply, From, Reply}, {{timeout, handshake}, Most, expired}]};
ready({call, From}, {handshake, Deadline}, #data{prepared = Prepared} = D) when Prepared =/= undefined ->
    Timer = {{timeout, call}, curve_tun_time:left(Deadline), expired},
    begin_handshake(Prepared, D#data{waiting = {call, From}}, [Timer]);
ready(cast, {handshake, Listener}, #data{prepared = Prepared} = D) when Prepared =/= undefined ->
    begin_handshake(Prepared, D#data{waiting = {listener, Listener}}, []);
ready(Type, Event, D) ->
    shaking(Type, Event, ready, D).

%%% initiating and accepting: the rest of the handshake

-spec initiating(gen_statem:event_type(), term(), #data{}) -> gen_statem:event_handler_result(atom()).
initiating(Type, Event, D) -> shaking(Type, Event, initiating, D).

-spec accepting(gen_statem:event_type(), term(), #data{}) -> gen_statem:event_handler_result(atom()).
accepting(Type, Event, D) -> shaking(Type, Event, accepting, D).

-spec begin_handshake(prepared(), #data{}, [term()]) -> gen_statem:event_handler_result(atom()).
begin_handshake(#{role := Role, providers := Providers, options := Options}, #data{socket = Socket} = D0, Actions) ->
    #{active := Active, receive_high_water := HighWater, buffer := Buffer} = Options,
    D = D0#data{role = element(1, Role), providers = Providers#{socket => Socket}, prepared = undefined,
                receivers = curve_tun_receivers:new(Active), high_water = HighWater,
                buffer = Buffer},
    case open_end(Role, Socket) of
        {ok, Nif, Hello} ->
            case transmit(Hello, D) of
                ok -> read_on(D#data{nif = Nif}, initiating, Actions);
                {error, Reason} -> handshake_failed(Reason, D#data{nif = Nif})
            end;
        {ok, Nif} ->
            read_on(D#data{nif = Nif}, ready, Actions);
        {error, Reason} ->
            handshake_failed(Reason, D)
    end.

-spec open_end(tuple(), gen_tcp:socket()) ->
          {ok, curve_tun_nif:connection(), binary()} | {ok, curve_tun_nif:connection()} | {error, atom()}.
open_end({client, Vault, Key}, _Socket) ->
    curve_tun_nif:client_new(Vault, Key);
open_end({server, Server}, Socket) ->
    case inet:peername(Socket) of
        {ok, {Address, _Port}} -> curve_tun_nif:server_connection(Server, Address);
        {error, _} -> {error, closed}
    end.

%% The next bytes of the handshake.
-spec read_on(#data{}, atom(), [term()]) -> gen_statem:event_handler_result(atom()).
read_on(#data{socket = Socket} = D, State, Actions) ->
    %% The socket stays after the peer's end, to tell what that means.
    case inet:setopts(Socket, [{exit_on_close, false}, {active, once}]) of
        ok -> {next_state, State, D, Actions};
        {error, _} -> ended_in_handshake(D)
    end.

-spec shaking(gen_statem:event_type(), term(), atom(), #data{}) -> gen_statem:event_handler_result(atom()).
shaking(info, {tcp, Socket, Bytes}, _State, #data{socket = Socket, nif = Nif, rest = <<>>} = D) ->
    step(curve_tun_nif:handshake(Nif, Bytes), D);
shaking(info, {tcp_closed, Socket}, _State, #data{socket = Socket} = D) ->
    ended_in_handshake(D);
shaking(info, {Ref, Answer}, _State, #data{helper = {_, Ref}} = D) when is_reference(Ref) ->
    answered(Answer, D);
shaking(info, {'EXIT', Pid, _}, _State, #data{helper = {Pid, _}} = D) ->
    handshake_failed(vault_failed, D);
shaking({timeout, _}, expired, _State, D) ->
    handshake_failed(timeout, D);
shaking({call, From}, close, _State, D) ->
    _ = report({error, closed}, D),
    {stop_and_reply, normal, [{reply, From, ok}]};
shaking({call, From}, {recv, _}, _State, _D) ->
    {keep_state_and_data, [{reply, From, {error, wrong_state}}]};
shaking(cast, evict, _State, D) ->
    handshake_failed(too_many_handshakes, D);
shaking(Type, Event, State, D) ->
    common(Type, Event, State, D).

%% What the NIF says of the bytes or of the answer.
-spec step(term(), #data{}) -> gen_statem:event_handler_result(atom()).
step({ok, State, ToSend, Rest, Request}, D0) ->
    D = D0#data{rest = Rest},
    case transmit(ToSend, D) of
        ok when State =:= connected -> established(D);
        ok when Request =:= none -> read_on(D, State, []);
        ok -> ask(Request, State, D);
        {error, Reason} -> handshake_failed(Reason, D)
    end;
step({error, Reason}, D) ->
    handshake_failed(Reason, D).

%% Has a request answered; the answer comes as a message.
-spec ask(curve_tun_nif:request() | ask_vault, atom(), #data{}) -> gen_statem:event_handler_result(atom()).
ask(ask_vault, State, #data{nif = Nif} = D) ->
    Ref = make_ref(),
    case curve_tun_nif:ask_vault(Nif, Ref) of
        ok -> {next_state, State, D#data{helper = {nif, Ref}}};
        {error, Reason} -> handshake_failed(Reason, D)
    end;
ask(Request, State, #data{providers = Providers} = D) ->
    {next_state, State, D#data{helper = curve_tun_provider:start(Request, Providers)}}.

%% A provider may answer nonsense: that is its failure.
-spec answered(curve_tun_nif:answer() | vault_answered, #data{}) -> gen_statem:event_handler_result(atom()).
answered(Answer, #data{nif = Nif, rest = Rest} = D0) ->
    D = D0#data{helper = undefined, rest = <<>>},
    try curve_tun_nif:answer(Nif, Answer) of
        {ok, State, ToSend, _, none} when Rest =/= <<>>, State =/= connected ->
            case transmit(ToSend, D) of
                ok -> step(curve_tun_nif:handshake(Nif, Rest), D);
                {error, Reason} -> handshake_failed(Reason, D)
            end;
        {ok, State, ToSend, _, Request} -> step({ok, State, ToSend, Rest, Request}, D);
        {error, Reason} -> handshake_failed(Reason, D)
    catch
        error:badarg -> handshake_failed(vault_failed, D)
    end.

-spec transmit(binary(), #data{}) -> ok | {error, closed}.
transmit(<<>>, _D) ->
    ok;
transmit(Bytes, #data{socket = Socket}) ->
    case gen_tcp:send(Socket, Bytes) of
        ok -> ok;
        {error, _} -> {error, closed}
    end.

%% The transport ended before the handshake did. Only an end in order, by a peer that has read what we sent, says
%% anything about the server's key.
-spec ended_in_handshake(#data{}) -> gen_statem:event_handler_result(atom()).
ended_in_handshake(#data{broken = false, nif = Nif, socket = Socket} = D) when Nif =/= undefined ->
    case was_read(Socket) of
        true -> handshake_failed(curve_tun_nif:transport_ended(Nif), D);
        false -> handshake_failed(closed, D)
    end;
ended_in_handshake(D) ->
    handshake_failed(closed, D).

%% Whether a peer that has ended the transport had read all that we sent. One that closes without is at first seen to
%% end in order, too: but then its kernel has not acknowledged our bytes, or has reset the transport. Linux says so
%% (TCP_INFO: the state, then at offset 24 the packets that are not acknowledged); elsewhere the end counts as in order.
-spec was_read(gen_tcp:socket()) -> boolean().
was_read(Socket) ->
    case os:type() =:= {unix, linux} andalso inet:getopts(Socket, [{raw, 6, 11, 32}]) of
        {ok, [{raw, 6, 11, <<State, _:23/binary, Unacknowledged:32/native, _/binary>>}]} ->
            State =:= ?CLOSE_WAIT andalso Unacknowledged =:= 0;
        _ ->
            true
    end.

-spec handshake_failed(atom(), #data{}) -> gen_statem:event_handler_result(atom()).
handshake_failed(Reason, D) ->
    log(Reason, D),
    _ = report({error, Reason}, D),
    {stop, normal, D#data{waiting = undefined}}.

-spec report(ok | {error, atom()}, #data{}) -> ok.
report(Result, #data{waiting = {call, From}}) -> gen_statem:reply(From, Result);
report(Result, #data{waiting = {listener, Pid}}) -> Pid ! {handshake_over, self(), Result}, ok;
report(_Result, #data{waiting = undefined}) -> ok.

-spec established(#data{}) -> gen_statem:event_handler_result(atom()).
established(#data{sender = Sender, socket = Socket, nif = Nif, controller = {Controller, _}, rest = Rest} = D0) ->
    _ = inet:setopts(Socket, [{exit_on_close, true}]),
    curve_tun_sender:connected(Sender, Socket, Nif, Controller),
    _ = report(ok, D0),
    D = D0#data{waiting = undefined, providers = #{}, rest = <<>>},
    %% Messages may have come with the last packet of the handshake.
    {next_state, connected, D,
     [{{timeout, handshake}, cancel}, {{timeout, call}, cancel}, {next_event, info, {tcp, Socket, Rest}}]}.

%%% connected

-spec connected(gen_statem:event_type(), term(), #data{}) -> gen_statem:event_handler_result(atom()).
connected(info, {tcp, Socket, Bytes}, #data{socket = Socket, reading = Reading} = D) ->
    Left = case Reading of several -> several; _ -> none end,
    opened(open(Bytes, D#data.nif, []), D#data{reading = Left, bulk = byte_size(Bytes) >= ?BULK});
connected(info, {tcp_passive, Socket}, #data{socket = Socket} = D) ->
    {keep_state, arm(D#data{reading = none})};
connected(info, {tcp_closed, Socket}, #data{socket = Socket} = D) ->
    over(closed, D);
%% The peer takes no more, but what it has sent before may still wait in the socket, which then tells of its end.
connected(cast, {send_failed, closed}, _D) ->
    keep_state_and_data;
connected(cast, {send_failed, Reason}, D) ->
    over(Reason, D);
connected({timeout, end_writing}, flush, #data{socket = Socket}) ->
    case pending(Socket) of
        0 -> _ = gen_tcp:shutdown(Socket, write), keep_state_and_data;
        _ -> {keep_state_and_data, [{{timeout, end_writing}, ?FLUSH_STEP, flush}]}
    end;
connected({timeout, idle}, idle, #data{moved = true} = D) ->
    {keep_state, D#data{moved = false}, [{{timeout, idle}, ?IDLE, idle}]};
connected({timeout, idle}, idle, #data{nif = Nif} = D) ->
    curve_tun_nif:release(Nif),
    {keep_state, D#data{idle_timer = false}, [hibernate]};
connected({call, From}, {recv, Timeout}, #data{receivers = Rx} = D) ->
    {keep_state, resume(D#data{receivers = curve_tun_receivers:recv(From, Timeout, Rx)})};
connected({call, From}, close, D) ->
    gen_statem:reply(From, ok),
    linger(D);
connected({call, From}, {shutdown, How}, D) ->
    shut_down(How, From, D);
connected(Type, Event, D) ->
    common(Type, Event, connected, D).

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

%% Above the high-water mark nothing more is read, and the peer feels it.
-spec read_more(#data{}) -> #data{}.
read_more(#data{reading = several, socket = Socket} = D) ->
    case is_full(D) of
        true -> _ = inet:setopts(Socket, [{active, false}]), D#data{reading = none};
        false -> D
    end;
read_more(D) ->
    arm(D).

-spec is_full(#data{}) -> boolean().
is_full(#data{receivers = Rx, high_water = HighWater}) ->
    curve_tun_receivers:bytes(Rx) >= HighWater.

%% Reads on, unless above the high-water mark.
-spec arm(#data{}) -> #data{}.
arm(#data{reading = none, socket = Socket, bulk = Bulk, buffer = Buffer} = D) ->
    %% A socket that has closed meanwhile says so by itself.
    case is_full(D) of
        true -> D;
        false when Bulk -> _ = inet:setopts(Socket, [{buffer, Buffer}, {active, ?READS}]), D#data{reading = several};
        false -> _ = inet:setopts(Socket, [{buffer, ?BULK}, {active, once}]), D#data{reading = once}
    end.

%% Reads on once half of what waited is gone.
-spec resume(#data{}) -> #data{}.
resume(#data{reading = none, receivers = Rx, high_water = HighWater} = D) ->
    case curve_tun_receivers:bytes(Rx) =< HighWater div 2 of
        true -> arm(D);
        false -> D
    end;
resume(D) ->
    D.

-spec shut_down(read | write | read_write, gen_statem:from(), #data{}) -> gen_statem:event_handler_result(atom()).
shut_down(read, From, #data{receivers = Rx} = D) ->
    gen_statem:reply(From, ok),
    {keep_state, D#data{receivers = curve_tun_receivers:end_with(closed, Rx)}};
shut_down(write, From, #data{sender = Sender}) ->
    curve_tun_sender:stop(Sender),
    %% The end goes out after all that was sent. Waiting for that here would keep us from receiving.
    {keep_state_and_data, [{reply, From, ok}, {{timeout, end_writing}, 0, flush}]};
shut_down(read_write, From, D) ->
    gen_statem:reply(From, ok),
    linger(D#data{receivers = curve_tun_receivers:end_with(closed, D#data.receivers)}).

%%% closed: what came before can still be had; the socket may still be handing over what was sent

%% The connection is over, for `closed' in order. It stays for as long as there is something to tell.
-spec over(atom(), #data{}) -> gen_statem:event_handler_result(atom()).
over(Reason, #data{socket = Socket, nif = Nif, sender = Sender, receivers = Rx0} = D) ->
    log(Reason, D),
    curve_tun_sender:stop(Sender),
    curve_tun_nif:close(Nif),
    close_socket(Socket),
    Rx = curve_tun_receivers:deliver([], controller(D), curve_tun_receivers:end_with(Reason, Rx0)),
    stay(D#data{socket = undefined, receivers = Rx}).

-spec stay(#data{}) -> gen_statem:event_handler_result(atom()).
stay(#data{receivers = Rx} = D) ->
    case curve_tun_receivers:is_over(Rx) of
        true -> {stop, normal, D};
        false -> {next_state, closed, D, [{{timeout, idle}, cancel}]}
    end.

%% Closing in order: what was sent is handed to the kernel, then the peer's own end is awaited, for closing with unread
%% bytes would reset the connection and could take away what the peer has not read. Both waits are bounded.
-spec linger(#data{}) -> gen_statem:event_handler_result(atom()).
linger(#data{sender = Sender, nif = Nif, receivers = Rx, socket = Socket} = D) ->
    curve_tun_sender:stop(Sender),
    curve_tun_nif:close(Nif),
    Ended = D#data{receivers = curve_tun_receivers:end_with(closed, Rx)},
    Flush = {flush, pending(Socket), curve_tun_time:deadline(?FLUSH)},
    {next_state, closed, Ended#data{linger = Flush}, [{{timeout, idle}, cancel}, {state_timeout, 0, linger}]}.

%% Bytes that the kernel has not taken.
-spec pending(gen_tcp:socket()) -> non_neg_integer().
pending(Socket) ->
    case inet:getstat(Socket, [send_pend]) of
        {ok, [{send_pend, Pending}]} -> Pending;
        {error, _} -> 0
    end.

-spec closed(gen_statem:event_type(), term(), #data{}) -> gen_statem:event_handler_result(atom()).
closed(state_timeout, linger, #data{linger = {flush, Before, Deadline}, socket = Socket} = D) ->
    case pending(Socket) of
        0 ->
            _ = gen_tcp:shutdown(Socket, write),
            case inet:setopts(Socket, [{active, ?READS}]) of
                ok -> {keep_state, D#data{linger = drain}, [{state_timeout, ?DRAIN, linger}]};
                {error, _} -> {stop, normal, D}
            end;
        Pending when Pending < Before ->
            Progress = {flush, Pending, curve_tun_time:deadline(?FLUSH)},
            {keep_state, D#data{linger = Progress}, [{state_timeout, ?FLUSH_STEP, linger}]};
        _ ->
            case curve_tun_time:left(Deadline) of
                0 -> {stop, normal, D};
                _ -> {keep_state_and_data, [{state_timeout, ?FLUSH_STEP, linger}]}
            end
    end;
closed(state_timeout, linger, D) ->
    {stop, normal, D};
closed(info, {tcp, _, _}, _D) ->
    keep_state_and_data;
closed(info, {tcp_passive, Socket}, #data{linger = drain}) ->
    _ = inet:setopts(Socket, [{active, ?READS}]),
    keep_state_and_data;
closed(info, {tcp_closed, _}, #data{linger = Linger} = D) when Linger =/= none ->
    {stop, normal, D};
closed({call, From}, close, #data{linger = none} = D) ->
    {stop_and_reply, normal, [{reply, From, ok}], D};
closed({call, From}, close, _D) ->
    {keep_state_and_data, [{reply, From, ok}]};
closed({call, From}, {recv, Timeout}, #data{linger = none, receivers = Rx} = D) ->
    stay(D#data{receivers = curve_tun_receivers:recv(From, Timeout, Rx)});
closed({call, From}, {set_active, _} = Request, #data{linger = none} = D) ->
    common({call, From}, Request, closed, D);
closed({call, From}, {Kind, _} = Request, #data{linger = none} = D) when Kind =:= controlling_process; Kind =:= give ->
    common({call, From}, Request, closed, D);
closed({call, From}, _Request, _D) ->
    {keep_state_and_data, [{reply, From, {error, closed}}]};
closed(cast, _Event, _D) ->
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
%% A hand-over has two steps: the mode is made passive, so that the old controller can pass on what it has got.
common({call, {Pid, _} = From}, pause, State, #data{controller = {Pid, _}, receivers = Rx0} = D) ->
    {ok, Rx} = curve_tun_receivers:set_active(false, Rx0),
    Reply = {ok, curve_tun_receivers:active(Rx0)},
    {next_state, State, D#data{receivers = Rx}, [{reply, From, Reply}]};
common({call, {Pid, _} = From}, {controlling_process, New}, _State, #data{controller = {Pid, _}} = D) ->
    {keep_state, set_controller(New, D), [{reply, From, ok}]};
common({call, From}, Request, _State, _D) when Request =:= pause; element(1, Request) =:= controlling_process ->
    {keep_state_and_data, [{reply, From, {error, not_owner}}]};
common({call, From}, {give, New}, _State, D) ->
    {keep_state, set_controller(New, D), [{reply, From, ok}]};
common({call, From}, socket, _State, #data{socket = Socket}) when Socket =/= undefined ->
    {keep_state_and_data, [{reply, From, {ok, Socket}}]};
common({call, From}, information, State, #data{nif = Nif, role = Role}) when Nif =/= undefined ->
    {keep_state_and_data, [{reply, From, {ok, State, Role, Nif}}]};
common({call, From}, _Request, _State, _D) ->
    {keep_state_and_data, [{reply, From, {error, wrong_state}}]};
common(info, {timeout, Timer, recv}, _State, #data{receivers = Rx} = D) ->
    {keep_state, D#data{receivers = curve_tun_receivers:expired(Timer, Rx)}};
common(info, {tcp_error, _, _}, _State, D) ->
    {keep_state, D#data{broken = true}};
common(info, {'DOWN', Ref, process, _, _}, State, #data{controller = {_, Ref}} = D) ->
    controller_gone(State, D);
common(info, {'DOWN', Ref, process, _, _}, _State, #data{receivers = Rx} = D) ->
    {keep_state, D#data{receivers = curve_tun_receivers:gone(Ref, Rx)}};
common(info, {'EXIT', Sender, Reason}, _State, #data{sender = Sender}) ->
    {stop, {shutdown, {sender, Reason}}};
common(_Type, _Event, _State, _D) ->
    keep_state_and_data.

%% After a change of the active mode: an ended connection may now be over, a full one may read on.
-spec settled(atom(), #data{}) -> gen_statem:event_handler_result(atom()).
settled(closed, D) -> stay(D);
settled(connected, D) -> {keep_state, resume(D)};
settled(_State, D) -> {keep_state, D}.

-spec set_controller(pid(), #data{}) -> #data{}.
set_controller(New, #data{controller = {_, Ref}, sender = Sender} = D) ->
    demonitor(Ref, [flush]),
    curve_tun_sender:controller(Sender, New),
    D#data{controller = {New, monitor(process, New)}}.

%% Nobody is left to speak to: the connection ends, and the peer sees it.
-spec controller_gone(atom(), #data{}) -> gen_statem:event_handler_result(atom()).
controller_gone(connected, D) -> linger(D);
controller_gone(closed, #data{linger = Linger}) when Linger =/= none -> keep_state_and_data;
controller_gone(_State, D) -> {stop, normal, D}.

-spec stop_helper(#data{}) -> true.
stop_helper(#data{helper = {Pid, _}}) when is_pid(Pid) -> exit(Pid, kill);
stop_helper(#data{}) -> true.

-spec log(atom(), #data{}) -> ok.
log(closed, _D) ->
    ok;
log(Reason, #data{role = Role, socket = Socket}) ->
    ?LOG_DEBUG("curve_tun ~ts at ~tp closed: ~tp", [Role, peer(Socket), Reason]).

-spec peer(gen_tcp:socket() | undefined) -> term().
peer(undefined) -> unknown;
peer(Socket) ->
    case inet:peername(Socket) of
        {ok, Peer} -> Peer;
        {error, _} -> unknown
    end.
