%%% The independent peer of tests/peer, written in Python from docs/PROTOCOL.md alone, against this
%%% application in both roles. Both sides interoperate with it when it keeps the rules, and
%%% withstand it when it breaks each of them.
-module(curve_tun_peer_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(PATIENCE, 30000).
-define(SIZES, [0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1000, 4095, 4096, 16383, 16384, 16385, 40000, 65501, 65502,
                65503]).

suite() -> [{timetrap, {seconds, 300}}].

all() -> [its_client_talks_to_a_server_here, a_client_here_talks_to_its_server,
          a_server_here_holds_against_each_broken_rule, a_client_here_holds_against_each_broken_rule].

init_per_suite(Config) ->
    Root = root(filename:dirname(filename:absname(code:which(?MODULE)))),
    ok = curve_tun_test:start(),
    %% So that no refusal can come from the registry.
    [ok = curve_tun_simple_registry:register({127,0,0,1}, Key) || Key <- low_order()],
    [{script, filename:join([Root, "tests", "peer", "peer.py"])}, {python, python()} | Config].

end_per_suite(_) -> curve_tun_test:stop().
init_per_testcase(_, Config) -> curve_tun_test:flush(), Config.
end_per_testcase(_, _) -> ok.

%% The repository's root, above this folder.
root(Folder) ->
    case filelib:is_regular(filename:join([Folder, "tests", "peer", "peer.py"])) of
        true -> Folder;
        false when Folder =/= "/" -> root(filename:dirname(Folder))
    end.

%% The Python that has PyNaCl: `$PYTHON', the one in the path, or the system's.
python() ->
    Candidates = [P || P <- [os:getenv("PYTHON"), os:find_executable("python3"), "/usr/bin/python3"], P =/= false],
    HasNacl = fun(Python) -> os:cmd("'" ++ Python ++ "' -c 'import nacl.bindings' 2>&1") =:= "" end,
    case lists:search(HasNacl, Candidates) of
        {value, Python} -> Python;
        false -> ct:fail("a Python with PyNaCl is needed; scripts/bootstrap test installs it")
    end.

%% The points of small order that the peer knows: 0, 1, two of order 8, p - 1, p and p + 1.
low_order() ->
    P = (1 bsl 255) - 19,
    [<<N:256/little>>
     || N <- [0, 1, 325606250916557431795983626356110631294008115727848805560023387167927233504,
              39382357235489614581723060781553021112529911719440698176882885853963445705823, P - 1, P, P + 1]].

%% Starts the peer with its own secret key, and the public key of the other end.
peer(Config, Arguments, Secret, Public) ->
    Port = open_port({spawn_executable, proplists:get_value(python, Config)},
                     [{args, ["-B", proplists:get_value(script, Config) | Arguments]}, {line, 1000}, exit_status,
                      use_stdio]),
    true = port_command(Port, [binary:encode_hex(Secret), $\n, binary:encode_hex(Public), $\n]),
    Port.

%% Returns the next line that it prints, or `{exit, Status}' at the end.
line(Peer) ->
    receive
        {Peer, {data, {eol, Line}}} -> Line;
        {Peer, {exit_status, Status}} -> {exit, Status}
    after ?PATIENCE -> ct:fail(the_peer_is_silent)
    end.

lines(Peer) ->
    case line(Peer) of
        {exit, Status} -> {Status, []};
        Line -> {Status, Lines} = lines(Peer), {Status, [Line | Lines]}
    end.

own_key() ->
    {ok, Key} = curve_tun:public_key(),
    Key.

%% Makes a key pair for the peer, which is let in.
its_keys() ->
    {Public, Secret} = crypto:generate_key(ecdh, x25519),
    ok = curve_tun_simple_registry:register({127,0,0,1}, Public),
    {Public, Secret}.

%% Echoes to one client after the other; reports for each how many messages it sent, and what ended
%% it. The sockets are active, so that the reason of an end is reported without being asked for.
serve(Listener, Test) ->
    case curve_tun:accept(Listener, infinity) of
        {ok, Socket} ->
            ok = curve_tun:setopts(Socket, [{active, true}]),
            %% The peer may have left.
            Echo = fun(Message, Count) -> _ = curve_tun:send(Socket, Message), Count + 1 end,
            Test ! {served, until_the_end(Socket, Echo, 0, closed)},
            serve(Listener, Test);
        {error, closed} ->
            ok
    end.

%% Handles messages as they come; returns the result, and how the connection ended.
until_the_end(Socket, Take, Acc, Reason) ->
    receive
        {curve_tun, Socket, Message} -> until_the_end(Socket, Take, Take(Message, Acc), Reason);
        {curve_tun_error, Socket, Error} -> until_the_end(Socket, Take, Acc, Error);
        {curve_tun_closed, Socket} -> {Acc, Reason}
    after ?PATIENCE -> ct:fail({neither_data_nor_end, Acc})
    end.

served() ->
    receive {served, Seen} -> [Seen | served()] after 0 -> [] end.

with_server(Test) ->
    {Listener, Port} = curve_tun_test:listen(),
    Parent = self(),
    Server = spawn_link(fun() -> serve(Listener, Parent) end),
    Test(integer_to_list(Port)),
    Monitor = monitor(process, Server),
    ok = curve_tun:close(Listener),
    receive {'DOWN', Monitor, process, Server, _} -> ok end,
    served().

its_client_talks_to_a_server_here(Config) ->
    {_, Secret} = its_keys(),
    Seen = with_server(fun(Port) ->
               Sizes = [integer_to_list(Size) || Size <- ?SIZES],
               Peer = peer(Config, ["talk", "127.0.0.1", Port | Sizes], Secret, own_key()),
               ?assertEqual({0, ["22 messages sent and received"]}, lines(Peer))
           end),
    ?assertEqual([{22, closed}], Seen).

a_server_here_holds_against_each_broken_rule(Config) ->
    Before = curve_tun_test:count(),
    {_, Secret} = its_keys(),
    Self = self(),
    Seen = with_server(fun(Port) ->
               Peer = peer(Config, ["attack", "127.0.0.1", Port], Secret, own_key()),
               %% It has checked that each attack is refused, and that an honest client is served
               %% after each.
               {Status, Lines} = lines(Peer),
               ?assertEqual(0, Status),
               Self ! {expected, Lines}
           end),
    Expected = receive {expected, Lines} -> Lines end,
    ?assert(length(Expected) > 90),
    Say = fun({Count, closed}) -> lists:flatten(io_lib:format("let in, ~b delivered, closed", [Count]));
             ({Count, bad_packet}) -> lists:flatten(io_lib:format("let in, ~b delivered, refused", [Count]))
          end,
    ?assertEqual([hd(string:split(Line, ": ")) || Line <- Expected], [Say(S) || S <- Seen]),
    curve_tun_test:settled(Before).

a_client_here_talks_to_its_server(Config) ->
    {Public, Secret} = its_keys(),
    Peer = peer(Config, ["echo", "2"], Secret, own_key()),
    Port = list_to_integer(line(Peer)),
    [begin
         {ok, Socket} = curve_tun:connect({127,0,0,1}, Port, [{key, Public}], ?PATIENCE),
         ?assertEqual({ok, Public}, curve_tun:peer_public_key(Socket)),
         [begin
              Message = binary:copy(<<Size:8>>, Size),
              ok = curve_tun:send(Socket, Message),
              ?assertEqual(Message, curve_tun:recv(Socket, ?PATIENCE))
          end || Size <- ?SIZES],
         ok = curve_tun:close(Socket)
     end || _ <- [1, 2]],
    ?assertEqual({0, []}, lines(Peer)).

a_client_here_holds_against_each_broken_rule(Config) ->
    Before = curve_tun_test:count(),
    {Public, Secret} = its_keys(),
    Peer = peer(Config, ["trap"], Secret, own_key()),
    Port = list_to_integer(line(Peer)),
    ?assert(spring(Peer, Port, Public, 0) > 40),
    curve_tun_test:settled(Before).

%% Walks into each trap; returns how many there were.
spring(Peer, Port, Public, Count) ->
    case line(Peer) of
        {exit, Status} ->
            ?assertEqual(0, Status),
            Count;
        Line ->
            [Expected, Name] = string:split(Line, ": "),
            Saw = case curve_tun:connect({127,0,0,1}, Port, [{key, Public}, {active, true}], ?PATIENCE) of
                      {error, Reason} ->
                          io_lib:format("refuse with ~s", [Reason]);
                      {ok, Socket} ->
                          ok = curve_tun:send(Socket, <<"first">>),
                          {Messages, Reason} = until_the_end(Socket, fun message/2, 0, closed),
                          io_lib:format("receive ~b, then ~s", [Messages, Reason])
                  end,
            ?assertEqual({Name, Expected}, {Name, lists:flatten(Saw)}),
            spring(Peer, Port, Public, Count + 1)
    end.

%% Expects the right message at this position.
message(Message, Count) ->
    ?assertEqual(iolist_to_binary(io_lib:format("message ~b", [Count])), Message),
    Count + 1.
