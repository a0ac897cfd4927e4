%%% Sending in quick succession: what was sent arrives, in order, however the connection ends; and a
%%% process that alternates with its peer does not start the sender process.
-module(curve_tun_sender_SUITE).

-include_lib("stdlib/include/assert.hrl").
-import(curve_tun_test, [pair/0, pair/2, stop_pair/1, sender/1, until/1]).

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {seconds, 60}}].

all() ->
    [messages_in_quick_succession_are_piled_up, the_next_stream_has_a_sender_again, who_takes_turns_has_no_sender,
     sizes_large_and_small_keep_their_order, what_was_sent_comes_before_close, what_was_sent_comes_before_shutdown,
     what_was_sent_comes_before_the_end_of_its_owner, what_was_sent_comes_when_the_supervisor_ends_it,
     a_writer_that_dies_has_sent_what_it_was_told, a_full_pile_holds_its_senders, a_timeout_is_told].

init_per_suite(Config) ->
    ok = curve_tun_test:start(),
    Config.
end_per_suite(_) -> curve_tun_test:stop().
init_per_testcase(_, Config) -> curve_tun_test:flush(), Config.
end_per_testcase(_, _) -> ok.

%% Sends without pause until a sender process exists, and at least `Least' messages; returns how
%% many.
stream(Client, Least) ->
    stream(Client, Least, 0).

stream({curve_tun_socket, Connection, _, _} = Client, Least, Sent) ->
    [ok = curve_tun:send(Client, <<N:32>>) || N <- lists:seq(Sent + 1, Sent + 500)],
    case Sent + 500 >= Least andalso sender(Connection) =/= none of
        true -> Sent + 500;
        false -> stream(Client, Least, Sent + 500)
    end.

%% All of them arrive, in order, followed by the result.
arrived(Server, Count) ->
    [<<N:32>> = curve_tun:recv(Server) || N <- lists:seq(1, Count)],
    curve_tun:recv(Server).

messages_in_quick_succession_are_piled_up(_) ->
    {Client, Server} = Pair = pair(),
    Sent = stream(Client, 50000),
    ok = curve_tun:send(Client, <<"end">>),
    <<"end">> = arrived(Server, Sent),
    stop_pair(Pair).

the_next_stream_has_a_sender_again(_) ->
    {{curve_tun_socket, Connection, _, _} = Client, Server} = Pair = pair(),
    [begin
         Sent = stream(Client, 1000),
         ok = curve_tun:send(Client, <<"end">>),
         <<"end">> = arrived(Server, Sent),
         %% It ends a second after its last work, and loses nothing.
         until(fun() -> sender(Connection) =:= none end)
     end || _ <- [1, 2, 3]],
    stop_pair(Pair).

who_takes_turns_has_no_sender(_) ->
    {{curve_tun_socket, Connection, _, _} = Client, Server} = Pair = pair(),
    [begin
         ok = curve_tun:send(Client, <<N:32>>),
         <<N:32>> = curve_tun:recv(Server),
         ok = curve_tun:send(Server, <<N:32>>),
         <<N:32>> = curve_tun:recv(Client)
     end || N <- lists:seq(1, 2000)],
    none = sender(Connection),
    stop_pair(Pair).

%% Some fit into the write queue, some are too large for it, some are many in one call: each waits
%% for the previous ones.
sizes_large_and_small_keep_their_order(_) ->
    {Client, Server} = Pair = pair(),
    Message = fun(N) -> <<N:32, 0:(8 * element(N rem 7 + 1, {0, 1, 60, 1000, 16000, 17000, 60000}))>> end,
    Calls = [case N rem 11 of
                 0 -> {many, [Message(M) || M <- lists:seq(20 * N, 20 * N + 19)]};
                 _ -> {one, Message(20 * N)}
             end || N <- lists:seq(1, 4000)],
    Sender = spawn_link(fun() ->
                 _ = [case Call of
                          {many, Messages} -> ok = curve_tun:send_many(Client, Messages);
                          {one, One} -> ok = curve_tun:send(Client, One)
                      end || Call <- Calls],
                 ok = curve_tun:send(Client, <<"end">>)
             end),
    [?assertEqual(Expected, curve_tun:recv(Server)) || Expected <- lists:flatten([M || {_, M} <- Calls])],
    <<"end">> = curve_tun:recv(Server),
    unlink(Sender),
    stop_pair(Pair).

what_was_sent_comes_before_close(_) ->
    ended_by(fun(Client) -> ok = curve_tun:close(Client) end).

what_was_sent_comes_before_shutdown(_) ->
    ended_by(fun(Client) -> ok = curve_tun:shutdown(Client, write) end).

what_was_sent_comes_when_the_supervisor_ends_it(_) ->
    ended_by(fun({curve_tun_socket, Connection, _, _}) ->
                 ok = supervisor:terminate_child(curve_tun_connection_sup, Connection)
             end).

ended_by(End) ->
    [begin
         {Client, Server} = Pair = pair(),
         Sent = stream(Client, 1000),
         End(Client),
         {error, closed} = arrived(Server, Sent),
         stop_pair(Pair)
     end || _ <- lists:seq(1, 30)].

what_was_sent_comes_before_the_end_of_its_owner(_) ->
    [begin
         {Client, Server} = pair(),
         Test = self(),
         Owner = spawn(fun() ->
                     receive go -> ok end,
                     Test ! {sent, stream(Client, 1000)}
                 end),
         ok = curve_tun:controlling_process(Client, Owner),
         Owner ! go,
         {error, closed} = arrived(Server, receive {sent, Sent} -> Sent end),
         ok = curve_tun:close(Server)
     end || _ <- lists:seq(1, 30)].

%% Killed at any moment, in a stream: everything it was told is sent arrives, and at most one
%% message more, which may arrive after others have sent something since.
a_writer_that_dies_has_sent_what_it_was_told(_) ->
    {Client, Server} = Pair = pair([], [{receive_high_water, 67108864}]),
    Told = counters:new(1, []),
    [begin
         counters:put(Told, 1, 0),
         Writer = spawn(fun() -> count_up(Client, Told, Round, 1) end),
         timer:sleep(rand:uniform(8)),
         exit(Writer, kill),
         until(fun() -> not is_process_alive(Writer) end),
         Least = counters:get(Told, 1),
         ok = curve_tun:send(Client, <<Round:32, "end">>),
         Came = until_end(Server, Round),
         ?assertEqual(lists:seq(1, length(Came)), Came),
         ?assert(length(Came) - Least =< 1 andalso length(Came) >= Least)
     end || Round <- lists:seq(1, 100)],
    stop_pair(Pair).

until_end(Server, Round) ->
    case curve_tun:recv(Server) of
        <<Round:32, "end">> -> [];
        <<Round:32, N:32>> -> [N | until_end(Server, Round)];
        <<Before:32, _:32>> when Before < Round -> until_end(Server, Round)
    end.

count_up(Client, Told, Round, N) ->
    ok = curve_tun:send(Client, <<Round:32, N:32>>),
    counters:put(Told, 1, N),
    count_up(Client, Told, Round, N + 1).

%% A peer that does not read blocks the senders, however small the messages: sockets and write queue
%% are bounded.
a_full_pile_holds_its_senders(_) ->
    {Client, Server} = Pair = pair([{send_timeout, infinity}, {high_watermark, 65536}], [{receive_high_water, 1}]),
    Told = counters:new(1, []),
    Writer = spawn(fun() -> count_up(Client, Told, 1, 1) end),
    until(fun() ->
              Before = counters:get(Told, 1),
              timer:sleep(300),
              Before > 0 andalso Before =:= counters:get(Told, 1)
          end),
    true = is_process_alive(Writer),
    Least = counters:get(Told, 1),
    [<<1:32, N:32>> = curve_tun:recv(Server) || N <- lists:seq(1, Least)],
    until(fun() -> counters:get(Told, 1) > Least end),
    exit(Writer, kill),
    stop_pair(Pair).

%% Messages in the write queue are lost with the connection then; processes that wait for room in it
%% get an error.
a_timeout_is_told(_) ->
    {Client, Server} = pair([{send_timeout, 300}, {high_watermark, 4096}, {low_watermark, 1024}], [{receive_high_water, 1}]),
    {error, timeout} = until_error(Client),
    {error, closed} = curve_tun:send(Client, <<"x">>),
    ok = curve_tun:close(Server).

until_error(Client) ->
    case curve_tun:send(Client, <<0:8000>>) of
        ok -> until_error(Client);
        Error -> Error
    end.
