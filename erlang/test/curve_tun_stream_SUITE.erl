%%% Streams: bytes with {packet, raw}, large messages with {packet, 4}.
-module(curve_tun_stream_SUITE).

-include_lib("stdlib/include/assert.hrl").
-import(curve_tun_test, [pair/1, pair/2, listen/1, connect/2, stop_pair/1, message/1, no_message/0, until/1]).

-compile([export_all, nowarn_export_all]).

-define(RAW, [{packet, raw}]).
-define(LARGE, [{packet, 4}]).
-define(PATIENCE, 10000).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [bytes_both_ways, a_length_of_bytes, a_timeout_keeps_the_bytes, more_than_the_high_water_mark, receivers_in_order,
     any_size, what_is_no_iodata, nothing_is_sent_of_nothing,
     true_delivers_all, once_delivers_one, a_count_delivers_so_many, the_end_and_the_close_of_an_active_socket,
     half_close_by_the_client, half_close_by_the_server, nothing_is_sent_after_the_end, close_finishes,
     close_gives_up_what_the_peer_still_sends, end_of_a_socket_nobody_reads,
     messages_of_all_sizes, twenty_mebibytes, too_large_for_the_peer, a_large_message_waits_for_the_peer,
     a_large_message_waits_no_longer_than_a_send, many_senders_of_large_messages, many_messages_at_once,
     the_owner_dies, the_owner_dies_after_its_end, a_sender_is_killed, codes_of_aborts, nobody_accepts,
     backpressure_of_a_passive_socket, backpressure_of_once, controlling_process_passes_the_end_on, events_and_logs,
     services, options].

init_per_suite(Config) -> ok = curve_tun_test:start(), Config.
end_per_suite(_) -> curve_tun_test:stop().
init_per_testcase(_, Config) -> curve_tun_test:flush(), [{before, curve_tun_test:count()} | Config].
end_per_testcase(_, Config) -> curve_tun_test:settled(proplists:get_value(before, Config)).

random(Size) -> rand:bytes(Size).

%% Reads to the end of a stream of bytes.
all_of(Socket) -> all_of(Socket, []).

all_of(Socket, Acc) ->
    case curve_tun:recv(Socket, 0, ?PATIENCE) of
        {ok, Bytes} -> all_of(Socket, [Bytes | Acc]);
        {error, Reason} -> {Reason, iolist_to_binary(lists:reverse(Acc))}
    end.

finish(Socket) -> ok = curve_tun:shutdown(Socket, write).

%% Ends a pair in order: nothing is left of it then.
finish_pair({A, B} = Pair) ->
    finish(A),
    finish(B),
    _ = all_of(A),
    _ = all_of(B),
    stop_pair(Pair).

%%% Bytes

bytes_both_ways(_) ->
    {Client, Server} = Pair = pair(?RAW),
    ok = curve_tun:send(Client, "to the server"),
    {ok, <<"to the server">>} = curve_tun:recv(Server, 13, ?PATIENCE),
    ok = curve_tun:send(Server, ["to ", <<"the">>, [$\s, "client"]]),
    {ok, <<"to the client">>} = curve_tun:recv(Client, 13, ?PATIENCE),
    %% There are no borders between them.
    ok = curve_tun:send_many(Client, [<<"one">>, <<"two">>]),
    {ok, <<"onet">>} = curve_tun:recv(Server, 4, ?PATIENCE),
    <<"wo">> = curve_tun:recv(Server),
    finish_pair(Pair).

a_length_of_bytes(_) ->
    {Client, Server} = Pair = pair(?RAW),
    Bytes = random(300000),
    ok = curve_tun:send(Client, Bytes),
    finish(Client),
    Lengths = [1, 2, 65501, 65502, 65503, 100000],
    Parts = [begin {ok, Part} = curve_tun:recv(Server, N, ?PATIENCE), ?assertEqual(N, byte_size(Part)), Part end || N <- Lengths],
    Left = 300000 - lists:sum(Lengths),
    %% Fewer than asked for are left: they stay.
    {error, closed} = curve_tun:recv(Server, Left + 1, ?PATIENCE),
    {ok, Last} = curve_tun:recv(Server, Left, ?PATIENCE),
    ?assertEqual(Bytes, iolist_to_binary([Parts, Last])),
    {error, closed} = curve_tun:recv(Server, 0, ?PATIENCE),
    [{error, {bad_length, N}} = curve_tun:recv(Client, N, 0) || N <- [-1, 16#4000001, 1 bsl 70]],
    finish_pair(Pair).

a_timeout_keeps_the_bytes(_) ->
    {Client, Server} = Pair = pair(?RAW),
    {error, timeout} = curve_tun:recv(Server, 0, 0),
    {error, timeout} = curve_tun:recv(Server, 5, 1),
    ok = curve_tun:send(Client, "1234"),
    [{error, timeout} = curve_tun:recv(Server, 5, T) || T <- [20, 0, 1]],
    ok = curve_tun:send(Client, "5"),
    {ok, <<"12345">>} = curve_tun:recv(Server, 5, ?PATIENCE),
    finish_pair(Pair).

more_than_the_high_water_mark(_) ->
    {Client, Server} = Pair = pair([{receive_high_water, 1000} | ?RAW]),
    Bytes = random(3000000),
    ok = curve_tun:send(Client, Bytes),
    {ok, Bytes} = curve_tun:recv(Server, 3000000, ?PATIENCE),
    finish_pair(Pair).

%% The first that waits wants more than there is; those after it wait too, until it leaves.
receivers_in_order(_) ->
    {Client, Server} = Pair = pair(?RAW),
    Test = self(),
    Receive = fun(Name, Length, Timeout) ->
                  Pid = spawn_link(fun() -> Test ! {Name, curve_tun:recv(Server, Length, Timeout)} end),
                  until(fun() -> process_info(Pid, status) =:= {status, waiting} end),
                  {ok, _} = curve_tun:peername(Server)
              end,
    Receive(first, 10, 300),
    Receive(second, 3, infinity),
    Receive(third, 3, infinity),
    ok = curve_tun:send(Client, "12345"),
    receive {first, {error, timeout}} -> ok end,
    receive {second, {ok, <<"123">>}} -> ok end,
    ok = curve_tun:send(Client, "6"),
    receive {third, {ok, <<"456">>}} -> ok end,
    no_message(),
    finish_pair(Pair).

any_size(_) ->
    {Client, Server} = Pair = pair(?RAW),
    Test = self(),
    Sizes = [1, 65498, 65501, 65502, 65503, 131003, 131004, 131005, 1000000, 10000001],
    Sent = [random(Size) || Size <- Sizes],
    spawn_link(fun() -> [ok = curve_tun:send(Client, [Bytes, []]) || Bytes <- Sent], finish(Client), Test ! sent end),
    {closed, Received} = all_of(Server),
    ?assert(iolist_to_binary(Sent) =:= Received),
    receive sent -> ok end,
    finish_pair(Pair).

what_is_no_iodata(_) ->
    {Client, Server} = Pair = pair(?RAW),
    [{error, badarg} = curve_tun:send(Client, Wrong)
     || Wrong <- [atom, 5, [300], [binary:copy(<<1>>, 70000) | atom], {<<>>}]],
    {error, badarg} = curve_tun:send_many(Client, [binary:copy(<<1>>, 70000), atom]),
    finish(Client),
    {closed, <<>>} = all_of(Server),
    finish_pair(Pair).

nothing_is_sent_of_nothing(_) ->
    {Client, Server} = Pair = pair(?RAW),
    [ok = curve_tun:send(Client, Nothing) || Nothing <- [<<>>, [], [[], <<>>]]],
    ok = curve_tun:send_many(Client, []),
    finish(Client),
    {closed, <<>>} = all_of(Server),
    finish_pair(Pair).

%%% Active modes

active_bytes(Socket, Size) ->
    active_bytes(Socket, Size, []).

active_bytes(_Socket, 0, Acc) ->
    iolist_to_binary(lists:reverse(Acc));
active_bytes(Socket, Left, Acc) ->
    Bytes = message(Socket),
    active_bytes(Socket, Left - byte_size(Bytes), [Bytes | Acc]).

true_delivers_all(_) ->
    {Client, Server} = Pair = pair(?RAW, [{active, true} | ?RAW]),
    Bytes = random(1000000),
    ok = curve_tun:send(Client, Bytes),
    Bytes = active_bytes(Server, 1000000),
    {error, einval} = curve_tun:recv(Server, 1, 0),
    finish_pair(Pair).

once_delivers_one(_) ->
    {Client, Server} = Pair = pair(?LARGE, [{active, once} | ?LARGE]),
    Large = random(200000),
    ok = curve_tun:send_many(Client, [<<"1">>, Large, <<>>]),
    <<"1">> = message(Server),
    no_message(),
    ok = curve_tun:setopts(Server, [{active, once}]),
    Large = message(Server),
    {ok, [{active, false}]} = curve_tun:getopts(Server, [active]),
    {ok, <<>>} = curve_tun:recv(Server, 0, ?PATIENCE),
    finish_pair(Pair).

a_count_delivers_so_many(_) ->
    {Client, Server} = Pair = pair(?LARGE, [{active, 2} | ?LARGE]),
    ok = curve_tun:send_many(Client, [<<"1">>, <<"2">>, <<"3">>]),
    <<"1">> = message(Server),
    <<"2">> = message(Server),
    passive = message(Server),
    no_message(),
    <<"3">> = curve_tun:recv(Server),
    finish_pair(Pair).

%% In all modes: the end comes after the data, the close after both ends.
the_end_and_the_close_of_an_active_socket(_) ->
    [begin
         {Client, Server} = Pair = pair(?LARGE, [{active, Mode} | ?LARGE]),
         ok = curve_tun:send(Client, <<"last">>),
         finish(Client),
         <<"last">> = message(Server),
         _ = Mode =:= once andalso curve_tun:setopts(Server, [{active, once}]),
         the_end = message(Server),
         no_message(),
         ok = curve_tun:send(Server, <<"answer">>),
         {ok, <<"answer">>} = curve_tun:recv(Client, 0, ?PATIENCE),
         finish(Server),
         closed = message(Server),
         no_message(),
         {error, closed} = curve_tun:recv(Client),
         {error, closed} = curve_tun:send(Server, <<"late">>),
         stop_pair(Pair)
     end || Mode <- [true, once, 5]].

%%% Ends

half_close_by_the_client(_) -> half_close(fun({Client, Server}) -> {Client, Server} end).
half_close_by_the_server(_) -> half_close(fun({Client, Server}) -> {Server, Client} end).

half_close(Order) ->
    {First, Second} = Pair = Order(pair(?RAW)),
    ok = curve_tun:send(First, "question"),
    finish(First),
    {closed, <<"question">>} = all_of(Second),
    [{error, closed} = curve_tun:recv(Second, Length, infinity) || Length <- [0, 1, 0]],
    Answer = random(1000000),
    ok = curve_tun:send(Second, Answer),
    {ok, Answer} = curve_tun:recv(First, 1000000, ?PATIENCE),
    ok = curve_tun:send(Second, "and more"),
    finish(Second),
    {closed, <<"and more">>} = all_of(First),
    [until(fun() -> {state, closed} =:= state_of(Socket) end) || Socket <- [First, Second]],
    {ok, Information} = curve_tun:connection_information(First),
    {reason, closed} = lists:keyfind(reason, 1, Information),
    stop_pair(Pair).

state_of(Socket) ->
    case curve_tun:connection_information(Socket) of
        {ok, Information} -> lists:keyfind(state, 1, Information);
        {error, Reason} -> Reason
    end.

nothing_is_sent_after_the_end(_) ->
    {Client, Server} = Pair = pair(?RAW),
    finish(Client),
    finish(Client),
    [{error, closed} = curve_tun:send(Client, Bytes) || Bytes <- [<<"late">>, random(70000), random(200000)]],
    {closed, <<>>} = all_of(Server),
    finish_pair(Pair).

close_finishes(_) ->
    [begin
         {Client, Server} = pair(Options),
         Message = random(1000000),
         ok = curve_tun:send(Client, Message),
         ok = curve_tun:close(Client),
         [{error, closed} = Result || Result <- [curve_tun:recv(Client), curve_tun:send(Client, <<1>>), curve_tun:peername(Client)]],
         {closed, Message} = all_of(Server),
         ok = curve_tun:close(Server)
     end || Options <- [?RAW, ?LARGE]].

%% It reads the end, and what it writes fails: in no more than a few seconds.
close_gives_up_what_the_peer_still_sends(_) ->
    {Client, Server} = pair(?RAW),
    ok = curve_tun:send(Client, "all of it"),
    ok = curve_tun:close(Client),
    {closed, <<"all of it">>} = all_of(Server),
    Send = fun Again() -> case curve_tun:send(Server, random(1000)) of ok -> Again(); Error -> Error end end,
    {error, closed} = Send(),
    {error, closed} = curve_tun:recv(Server),
    until(fun() ->
              {ok, Information} = curve_tun:connection_information(Server),
              {reason, {aborted, 0}} =:= lists:keyfind(reason, 1, Information)
          end),
    ok = curve_tun:close(Server).

%% Both directions have ended and data waits: it can be read although the transport is gone.
end_of_a_socket_nobody_reads(_) ->
    {Client, Server} = Pair = pair(?RAW),
    ok = curve_tun:send(Client, "waits"),
    finish(Client),
    finish(Server),
    {closed, <<>>} = all_of(Client),
    until(fun() -> {error, closed} =:= curve_tun:peername(Server) end),
    timer:sleep(2500),
    {ok, <<"wa">>} = curve_tun:recv(Server, 2, 0),
    {closed, <<"its">>} = all_of(Server),
    stop_pair(Pair).

%%% Large messages

messages_of_all_sizes(_) ->
    {Client, Server} = Pair = pair(?LARGE),
    Messages = [random(N) || N <- [0, 1, 65497, 65498, 65499, 65501, 65502, 65503, 65504, 131000, 131001, 131004, 131005, 262144, 0]],
    [ok = curve_tun:send(Client, Message) || Message <- Messages],
    [{ok, Message} = curve_tun:recv(Server, 0, ?PATIENCE) || Message <- Messages],
    {error, {bad_length, 1}} = curve_tun:recv(Server, 1, 0),
    finish_pair(Pair).

twenty_mebibytes(_) ->
    {Client, Server} = Pair = pair([{packet_size, 32 bsl 20} | ?LARGE]),
    Message = random(20 bsl 20),
    ok = curve_tun:send(Client, Message),
    {ok, Received} = curve_tun:recv(Server, 0, ?PATIENCE),
    ?assert(Message =:= Received),
    finish_pair(Pair).

%% Nothing of it is sent, and the stream goes on.
too_large_for_the_peer(_) ->
    {Client, Server} = Pair = pair([{packet_size, 1} | ?LARGE], [{packet_size, 100000} | ?LARGE]),
    ok = curve_tun:send(Client, random(100000)),
    _ = curve_tun:recv(Server),
    {error, emsgsize} = curve_tun:send(Client, random(100001)),
    {error, emsgsize} = curve_tun:send_many(Client, [<<"small">>, random(100001)]),
    ok = curve_tun:send(Client, <<"fits">>),
    <<"fits">> = curve_tun:recv(Server),
    %% The smallest limit is what fits into one message of the tunnel.
    {error, emsgsize} = curve_tun:send(Server, random(65503)),
    Fits = random(65502),
    ok = curve_tun:send(Server, Fits),
    Fits = curve_tun:recv(Client),
    finish_pair(Pair).

%% The server's program has not accepted: what the peer takes is not known.
a_large_message_waits_for_the_peer(_) ->
    {Listener, Port} = listen(?LARGE),
    Test = self(),
    {Client, Acceptor} = not_accepted(Listener, Port, ?LARGE),
    ok = curve_tun:send(Client, <<"small">>),
    Large = random(1000000),
    spawn_link(fun() -> Test ! {sent, curve_tun:send(Client, Large)} end),
    no_message(),
    Server = accepted(Acceptor),
    receive {sent, Sent} -> ok = Sent end,
    <<"small">> = curve_tun:recv(Server),
    Large = curve_tun:recv(Server),
    ok = curve_tun:close(Listener),
    finish_pair({Client, Server}).

%% Connects to a process that waits in accept, and does not run on until `accepted/1'.
not_accepted(Listener, Port, Options) ->
    Test = self(),
    Acceptor = spawn_link(fun() ->
                   {ok, Server} = curve_tun:accept(Listener, infinity),
                   ok = curve_tun:controlling_process(Server, Test),
                   Test ! {self(), Server}
               end),
    until(fun() -> process_info(Acceptor, status) =:= {status, waiting} end),
    true = erlang:suspend_process(Acceptor),
    {ok, Client} = connect(Port, Options),
    {Client, Acceptor}.

accepted(Acceptor) ->
    true = erlang:resume_process(Acceptor),
    receive {Acceptor, Server} -> Server end.

a_large_message_waits_no_longer_than_a_send(_) ->
    {Listener, Port} = listen(?LARGE),
    {Client, Acceptor} = not_accepted(Listener, Port, [{send_timeout, 100} | ?LARGE]),
    {error, timeout} = curve_tun:send(Client, random(65503)),
    ok = curve_tun:send(Client, <<"small">>),
    Server = accepted(Acceptor),
    <<"small">> = curve_tun:recv(Server),
    ok = curve_tun:close(Listener),
    finish_pair({Client, Server}).

%% Each message arrives whole, and those of each process in its order.
many_senders_of_large_messages(_) ->
    {Client, Server} = Pair = pair(?LARGE),
    Sizes = [300000, 10, 65503, 1000, 131005, 0, 65502],
    Pids = [spawn_link(fun() ->
                           [ok = curve_tun:send(Client, <<Who, (binary:copy(<<Who>>, Size))/binary>>) || Size <- Sizes, _ <- [1, 2, 3]]
                       end) || Who <- lists:seq(1, 8)],
    Received = [curve_tun:recv(Server) || _ <- Pids, _ <- Sizes, _ <- [1, 2, 3]],
    Expected = [Size + 1 || Size <- Sizes, _ <- [1, 2, 3]],
    [?assertEqual(Expected, [byte_size(M) || <<W, _/binary>> = M <- Received, W =:= Who]) || Who <- lists:seq(1, 8)],
    [?assertEqual(M, binary:copy(<<Who>>, byte_size(M))) || <<Who, _/binary>> = M <- Received],
    finish_pair(Pair).

many_messages_at_once(_) ->
    {Client, Server} = Pair = pair(?LARGE),
    Messages = [random(rand:uniform(2000) - 1) || _ <- lists:seq(1, 2000)],
    ok = curve_tun:send_many(Client, Messages),
    [ok = curve_tun:send(Client, Message) || Message <- Messages],
    [Message = curve_tun:recv(Server) || _ <- [1, 2], Message <- Messages],
    finish_pair(Pair).

%%% Failures

%% The peer has all that was sent, and then no end.
the_owner_dies(_) ->
    [begin
         Test = self(),
         {Listener, Port} = listen(Options),
         {Owner, Ref} = spawn_monitor(fun() ->
                            {ok, Client} = connect(Port, Options),
                            ok = curve_tun:send(Client, <<"some">>),
                            Test ! sent,
                            receive go -> exit(Why) end
                        end),
         {ok, Server} = curve_tun:accept(Listener),
         receive sent -> ok end,
         <<"some">> = curve_tun:recv(Server),
         Owner ! go,
         receive {'DOWN', Ref, process, _, _} -> ok end,
         {error, {aborted, 0}} = curve_tun:recv(Server),
         {error, closed} = curve_tun:recv(Server),
         {ok, Information} = curve_tun:connection_information(Server),
         {reason, {aborted, 0}} = lists:keyfind(reason, 1, Information),
         [ok = curve_tun:close(S) || S <- [Server, Listener]]
     end || Options <- [?RAW, ?LARGE], Why <- [normal, crash]].

%% The end is not taken back.
the_owner_dies_after_its_end(_) ->
    Test = self(),
    {Listener, Port} = listen([{active, true} | ?RAW]),
    Owner = spawn(fun() ->
                      {ok, Client} = connect(Port, ?RAW),
                      ok = curve_tun:send(Client, <<"all">>),
                      finish(Client),
                      Test ! finished,
                      receive stop -> ok end
                  end),
    {ok, Server} = curve_tun:accept(Listener),
    receive finished -> ok end,
    <<"all">> = message(Server),
    the_end = message(Server),
    Owner ! stop,
    {error, {aborted, 0}} = message(Server),
    closed = message(Server),
    {error, closed} = curve_tun:recv(Server),
    [ok = curve_tun:close(S) || S <- [Server, Listener]].

%% Not the owner: what it has begun to send arrives whole.
a_sender_is_killed(_) ->
    {Client, Server} = Pair = pair([{high_watermark, 100000} | ?RAW]),
    Bytes = random(20000000),
    Sender = spawn(fun() -> curve_tun:send(Client, Bytes) end),
    {ok, First} = curve_tun:recv(Server, 100, ?PATIENCE),
    exit(Sender, kill),
    {ok, Rest} = curve_tun:recv(Server, 20000000 - 100, ?PATIENCE),
    ?assert(Bytes =:= <<First/binary, Rest/binary>>),
    finish_pair(Pair).

codes_of_aborts(_) ->
    [begin
         {Client, Server} = pair(?RAW, [{active, true} | ?RAW]),
         ok = curve_tun:send(Client, <<"part">>),
         ok = curve_tun_stream:abort(Client, Code),
         <<"part">> = message(Server),
         {error, {aborted, Told}} = message(Server),
         closed = message(Server),
         {error, closed} = curve_tun:recv(Client),
         {error, closed} = curve_tun:send(Client, <<"more">>),
         ?assertNotEqual(nomatch, string:find(curve_tun:format_error({aborted, Told}), "the peer")),
         stop_pair({Client, Server})
     end || {Code, Told} <- [{0, 0}, {6, 6}, {11, 11}, {7, 0}, {65535, 0}]],
    {error, badarg} = curve_tun_stream:abort(not_a_socket, 0),
    {Plain, _} = Pair = pair([]),
    [{error, badarg} = curve_tun_stream:abort(Plain, Code) || Code <- [-1, 65536, code]],
    {error, wrong_state} = curve_tun_stream:abort(Plain, 0),
    stop_pair(Pair).

%% The process that the connection was offered to dies: the client is told that it is given up.
nobody_accepts(_) ->
    {Listener, Port} = listen(?RAW),
    {Client, Acceptor} = not_accepted(Listener, Port, ?RAW),
    unlink(Acceptor),
    %% The offer is in its mailbox.
    until(fun() -> {message_queue_len, Count} = process_info(Acceptor, message_queue_len), Count > 0 end),
    exit(Acceptor, kill),
    {error, {aborted, 0}} = curve_tun:recv(Client),
    ok = curve_tun:close(Client),
    ok = curve_tun:close(Listener).

backpressure_of_a_passive_socket(_) ->
    backpressure(pair([{high_watermark, 1048576}, {send_timeout, infinity} | ?RAW], ?RAW), fun(_) -> ok end).

backpressure_of_once(_) ->
    backpressure(pair([{high_watermark, 1048576}, {send_timeout, infinity} | ?RAW], [{active, once} | ?RAW]),
                 fun(Server) -> _ = message(Server) end).

%% 200 MB to an end that does not read: what waits is bounded, and all of it comes when it does.
backpressure({Client, Server}, First) ->
    Bytes = random(1000000),
    Count = 200,
    Sender = spawn_link(fun() -> [ok = curve_tun:send(Client, Bytes) || _ <- lists:seq(1, Count)], finish(Client) end),
    Got = First(Server),
    until(fun() -> stopped(Client) end),
    ?assert(is_process_alive(Sender)),
    {curve_tun_socket, Connection, _, _} = Server,
    %% What is garbage already does not wait.
    true = erlang:garbage_collect(Connection),
    {binary, Binaries} = process_info(Connection, binary),
    Held = lists:sum([Held || {_, Held, _} <- lists:usort(Binaries)]),
    ?assert(Held < 4000000, Held),
    ok = curve_tun:setopts(Server, [{active, false}]),
    Size = Count * 1000000 - case Got of ok -> 0; _ -> byte_size(Got) end,
    ?assertEqual({closed, Size}, counted(Server, 0)),
    finish_pair({Client, Server}).

counted(Socket, Count) ->
    case curve_tun:recv(Socket, 0, ?PATIENCE) of
        {ok, Bytes} -> counted(Socket, Count + byte_size(Bytes));
        {error, Reason} -> {Reason, Count}
    end.

stopped(Socket) ->
    {ok, [{send_oct, Before}]} = inet:getstat(curve_tun_test:tcp_socket(Socket), [send_oct]),
    timer:sleep(300),
    {ok, [{send_oct, After}]} = inet:getstat(curve_tun_test:tcp_socket(Socket), [send_oct]),
    Before > 1000000 andalso Before =:= After.

controlling_process_passes_the_end_on(_) ->
    {Client, Server} = Pair = pair(?RAW, [{active, true} | ?RAW]),
    ok = curve_tun:send(Client, <<"last">>),
    finish(Client),
    until(fun() -> {messages, Messages} = process_info(self(), messages), length(Messages) =:= 2 end),
    Test = self(),
    Next = spawn_link(fun() ->
               receive go -> ok end,
               Test ! {told, [message(Server), message(Server)]},
               receive stop -> ok end
           end),
    ok = curve_tun:controlling_process(Server, Next),
    Next ! go,
    receive {told, Told} -> ?assertEqual([<<"last">>, the_end], Told) end,
    finish(Server),
    Next ! stop,
    stop_pair(Pair).

%% Both ends are reported, with the reasons that the program is told.
events_and_logs(_) ->
    Handled = {event_handler, {curve_tun_test_events, #{to => self()}}},
    Id = curve_tun_test:forward_log(notice),
    {Client, Server} = pair([{packet, raw}], [Handled | ?RAW]),
    receive {event, accepted, _, #{role := server}} -> ok end,
    ok = curve_tun_stream:abort(Client, 6),
    receive {event, closed, #{bytes_received := _}, Closed} -> ?assertMatch(#{reason := {aborted, 6}}, Closed) end,
    {error, {aborted, 6}} = curve_tun:recv(Server),
    {Listener, Port} = listen([Handled | ?RAW]),
    spawn(fun() -> curve_tun:accept(Listener) end),
    {ok, Plain} = connect(Port, []),
    ok = curve_tun:send(Plain, <<"hello">>),
    receive {event, refused, _, Refused} -> ?assertMatch(#{reason := not_a_stream, key := <<_/binary>>}, Refused) end,
    receive {log, #{meta := #{reason := not_a_stream}}} -> ok end,
    [ok = curve_tun:close(S) || S <- [Client, Server, Plain, Listener]],
    ok = logger:remove_handler(Id).

services(_) ->
    {Client, Server} = Pair = pair([{service, "web.example-1_a"} | ?RAW], ?RAW),
    {ok, AtServer} = curve_tun:connection_information(Server),
    ?assertEqual([{packet, raw}, {service, <<"web.example-1_a">>}], [lists:keyfind(Key, 1, AtServer) || Key <- [packet, service]]),
    {ok, AtClient} = curve_tun:connection_information(Client),
    ?assertEqual([{packet, raw}, false], [lists:keyfind(Key, 1, AtClient) || Key <- [packet, service]]),
    finish_pair(Pair).

options(_) ->
    Key = {key, <<0:256>>},
    [?assertEqual({error, {bad_option, Bad}}, curve_tun:connect({127,0,0,1}, 1, [Key, Bad | Other]))
     || {Bad, Other} <- [{{packet, 1}, []}, {{packet, 2}, []}, {{packet, stream}, []}, {{packet_size, 0}, ?LARGE},
                         {{packet_size, 1 bsl 32}, ?LARGE}, {{packet_size, 100}, ?RAW}, {{packet_size, 100}, []},
                         {{service, ""}, ?RAW}, {{service, "Web"}, ?RAW}, {{service, lists:duplicate(65, $a)}, ?RAW}]],
    {error, {missing_option, packet}} = curve_tun:connect({127,0,0,1}, 1, [Key, {service, "web"}]),
    {error, {bad_option, {service, "web"}}} = curve_tun:listen(0, [{service, "web"} | ?RAW]),
    {Client, _} = Pair = pair(?RAW),
    [{error, {bad_option, Bad}} = curve_tun:setopts(Client, [Bad]) || Bad <- [{packet, raw}, {packet, 4}, {packet_size, 100}]],
    finish_pair(Pair),
    %% The last one counts, as with gen_tcp.
    {Plain, Other} = Messages = pair([{packet, 4}, {packet, 0}]),
    ok = curve_tun:send(Plain, <<"as ever">>),
    <<"as ever">> = curve_tun:recv(Other),
    stop_pair(Messages).
