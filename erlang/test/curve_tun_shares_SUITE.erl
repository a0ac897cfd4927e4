%%% Handshakes in flight are shared fairly among the addresses that they come from.
-module(curve_tun_shares_SUITE).

-include_lib("stdlib/include/assert.hrl").
-import(curve_tun_test, [listen/1, connect/1, raw_closed/1, settled/1]).

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {seconds, 300}}].

all() ->
    [whoever_floods_from_one_address_gives_way_to_himself, one_source_has_no_more_than_its_share,
     hellos_from_one_address, hellos_from_many_addresses, what_one_source_is, places_go_as_a_plain_search_says].

init_per_suite(Config) -> ok = curve_tun_test:start(), Config.
end_per_suite(_) -> curve_tun_test:stop().
init_per_testcase(_, Config) -> curve_tun_test:flush(), Config.
end_per_testcase(_, _) -> ok.

from(Address, Port) ->
    {ok, Tcp} = gen_tcp:connect({127,0,0,1}, Port, [binary, {active, false}, {ip, Address}, {linger, {true, 0}}]),
    Tcp.

%% Says whether the server keeps it open.
open(Tcp) ->
    case gen_tcp:recv(Tcp, 0, 200) of
        {error, timeout} -> true;
        {error, _} -> false
    end.

%% A process accepts all the time, and echoes.
server(Options) ->
    {Listener, Port} = listen(Options),
    Server = spawn_link(fun() -> serve(Listener) end),
    {Listener, Port, Server}.

serve(Listener) ->
    case curve_tun:accept(Listener, infinity) of
        {ok, Socket} ->
            _ = case curve_tun:recv(Socket) of
                    Message when is_binary(Message) -> curve_tun:send(Socket, Message);
                    {error, _} -> gone
                end,
            ok = curve_tun:close(Socket),
            serve(Listener);
        {error, closed} ->
            ok
    end.

be_served(Port) ->
    {ok, Honest} = connect(Port),
    ok = curve_tun:send(Honest, <<"honest">>),
    ?assertEqual(<<"honest">>, curve_tun:recv(Honest)),
    ok = curve_tun:close(Honest).

whoever_floods_from_one_address_gives_way_to_himself(_) ->
    Before = curve_tun_test:count(),
    {Listener, Port, _} = server([{handshakes_max, 4}]),
    Other = from({127,0,0,3}, Port),
    Flood = [from({127,0,0,2}, Port) || _ <- lists:seq(1, 20)],
    be_served(Port),
    ?assert(open(Other)),
    _ = [raw_closed(Tcp) || Tcp <- lists:sublist(Flood, 17)],
    ok = curve_tun:close(Listener),
    _ = [gen_tcp:close(Tcp) || Tcp <- [Other | Flood]],
    settled(Before).

one_source_has_no_more_than_its_share(_) ->
    Before = curve_tun_test:count(),
    {Listener, Port, _} = server([{handshakes_max, 100}, {handshakes_per_source, 2}]),
    [First | Others] = [from({127,0,0,2}, Port) || _ <- [1, 2, 3]],
    _ = raw_closed(First),
    Elsewhere = from({127,0,0,3}, Port),
    be_served(Port),
    ?assert(lists:all(fun open/1, [Elsewhere | Others])),
    ok = curve_tun:close(Listener),
    _ = [gen_tcp:close(Tcp) || Tcp <- [First, Elsewhere | Others]],
    settled(Before).

hellos_from_one_address(_) ->
    flooded(fun(_) -> {127,0,0,2} end, fun be_served/1).

%% From more addresses than there are permits: a handshake lasts as long as that many new ones take
%% to come. On a busy machine that may be too short for an honest client, which then tries again.
hellos_from_many_addresses(_) ->
    flooded(fun(N) -> {127, 128 + N rem 64, N rem 251, 1 + N rem 241} end, fun be_served_in_the_end/1).

be_served_in_the_end(Port) ->
    Echo = case connect(Port) of
               {ok, Honest} ->
                   _ = curve_tun:send(Honest, <<"honest">>),
                   Heard = curve_tun:recv(Honest),
                   ok = curve_tun:close(Honest),
                   Heard;
               {error, _} = Error ->
                   Error
           end,
    case Echo of
        <<"honest">> -> ok;
        {error, GaveWay} when GaveWay =:= closed; GaveWay =:= wrong_server_key -> be_served_in_the_end(Port)
    end.

%% 3,000 valid hellos without a continuation, against a limit of 200; honest clients are served all
%% the time.
flooded(Address, BeServed) ->
    Before = curve_tun_test:count(),
    {Listener, Port, _} = server([{handshakes_max, 200}]),
    {ok, Key} = curve_tun:public_key(),
    {ok, Vault} = curve_tun_vault_nif:handle(),
    Hello = fun() -> {ok, Bytes} = curve_tun_nif:begin_client(curve_tun_nif:connection_new(), Vault, Key), Bytes end,
    Hellos = list_to_tuple([Hello() || _ <- lists:seq(1, 100)]),
    Flooders = [spawn_monitor(fun() -> flood(Start, Address, Port, Hellos, queue:new()) end) || Start <- [0, 1, 2]],
    ?assert(served_while(Flooders, fun() -> BeServed(Port) end, 0) > 3),
    be_served(Port),
    ok = curve_tun:close(Listener),
    settled(Before).

flood(N, _Address, _Port, _Hellos, _Kept) when N >= 3000 ->
    ok;
flood(N, Address, Port, Hellos, Kept) ->
    Tcp = from(Address(N), Port),
    %% The server may have closed it already.
    _ = gen_tcp:send(Tcp, element(1 + N rem tuple_size(Hellos), Hellos)),
    Now = queue:in(Tcp, Kept),
    Rest = case queue:len(Now) > 150 of
               true -> {{value, Oldest}, Others} = queue:out(Now), gen_tcp:close(Oldest), Others;
               false -> Now
           end,
    flood(N + 3, Address, Port, Hellos, Rest).

served_while([], _BeServed, Served) ->
    Served;
served_while([{Flooder, Monitor} | Others] = Flooders, BeServed, Served) ->
    BeServed(),
    receive
        {'DOWN', Monitor, process, Flooder, Reason} ->
            ?assertEqual(normal, Reason),
            served_while(Others, BeServed, Served + 1)
    after 10 ->
        served_while(Flooders, BeServed, Served + 1)
    end.

%% A server with so many permits.
limits(Most, Share) ->
    {ok, Vault} = curve_tun_nif:vault_dummy(),
    {ok, Server} = curve_tun_nif:server_new(Vault, curve_tun_nif:registry_new(), Most, Share, <<>>, 0),
    Server.

what_one_source_is(_) ->
    Server = limits(10, 0),
    Source = fun(Address) ->
                 End = curve_tun_nif:connection_new(),
                 {ok, []} = curve_tun_nif:begin_server(End, Server, self(), Address),
                 Source = curve_tun_nif:source(End),
                 ok = curve_tun_nif:close(End),
                 none = curve_tun_nif:source(End),
                 Source
             end,
    Same = fun(A, B) -> Source(A) =:= Source(B) end,
    ?assert(Same({192,0,2,1}, {0,0,0,0,0,16#ffff,16#c000,16#0201})),
    ?assertNot(Same({192,0,2,1}, {192,0,2,2})),
    ?assert(Same({16#2001,16#db8,0,1,0,0,0,1}, {16#2001,16#db8,0,1,9,9,9,9})),
    ?assertNot(Same({16#2001,16#db8,0,1,0,0,0,1}, {16#2001,16#db8,0,2,0,0,0,1})).

%% New and leaving handshakes in any order, checked against a linear search.
places_go_as_a_plain_search_says(_) ->
    _ = rand:seed(exsss, {1, 2, 3}),
    Pids = [spawn_link(fun() -> receive stop -> ok end end) || _ <- lists:seq(1, 60)],
    [begin
         Most = rand:uniform(8),
         Share = lists:nth(rand:uniform(4), [1, 2, 3, 0]),
         Server = limits(Most, Share),
         lists:foldl(fun(Pid, Held) -> step(Pid, Server, Most, Share, Held) end, [], Pids)
     end || _ <- lists:seq(1, 300)],
    [Pid ! stop || Pid <- Pids],
    ok.

%% Held: the handshakes with a permit, the oldest first.
step(Pid, Server, Most, Share, Held) ->
    case rand:uniform(4) of
        1 when Held =/= [] ->
            {Leaver, _, End} = lists:nth(rand:uniform(length(Held)), Held),
            ok = curve_tun_nif:close(End),
            lists:keydelete(Leaver, 1, Held);
        _ ->
            Source = {10, 0, 0, rand:uniform(5)},
            Expected = evicted(Source, Most, Share, Held),
            End = curve_tun_nif:connection_new(),
            ?assertEqual({ok, Expected}, curve_tun_nif:begin_server(End, Server, Pid, Source)),
            lists:foldl(fun(Other, Left) -> lists:keydelete(Other, 1, Left) end, Held, Expected) ++ [{Pid, Source, End}]
    end.

evicted(Source, Most, Share, Held) ->
    Count = fun(S) -> length([P || {P, T, _} <- Held, T =:= S]) + case S of Source -> 1; _ -> 0 end end,
    case Share > 0 andalso Count(Source) > Share of
        true ->
            {Oldest, _, _} = lists:keyfind(Source, 2, Held),
            [Oldest];
        false when length(Held) < Most ->
            [];
        false ->
            Largest = lists:max([Count(S) || {_, S, _} <- Held]),
            {value, {Oldest, _, _}} = lists:search(fun({_, S, _}) -> Count(S) =:= Largest end, Held),
            [Oldest]
    end.
