%%% A DNS server with signed zones, from tests/support/name-server; and one that delays answers.
-module(curve_tun_test_dns).

-export([start/2, stop/1, settings/2, record/2, client/1, server/1]).
-export([gate/2, held/1, open/1]).

-define(PATIENCE, 60000).

%% Serves zones, `{Name, not | nsec | nsec3, Lines}', from files in a new folder. It ends with the
%% calling process.
start(Folder, Zones) ->
    ok = filelib:ensure_dir(filename:join(Folder, "file")),
    [ok = file:write_file(filename:join(Folder, Name), Lines) || {Name, _, Lines} <- Zones],
    Arguments = ["serve", Folder | [[Name, $:, atom_to_list(Signed)] || {Name, Signed, _} <- Zones]],
    Server = open_port({spawn_executable, script(filename:dirname(filename:absname(code:which(?MODULE))))},
                       [{args, [lists:flatten(A) || A <- Arguments]}, {line, 1000}, exit_status, use_stdio]),
    Port = receive
        {Server, {data, {eol, "ready " ++ At}}} -> list_to_integer(At);
        {Server, Other} -> ct:fail({"Knot DNS is needed; scripts/bootstrap test installs it", Other})
    after ?PATIENCE -> ct:fail(the_name_server_is_silent)
    end,
    #{port => Port, server => Server, folder => Folder}.

stop(#{server := Server}) ->
    true = port_close(Server),
    ok.

script(Folder) ->
    Script = filename:join([Folder, "tests", "support", "name-server"]),
    case filelib:is_regular(Script) of
        true -> Script;
        false when Folder =/= "/" -> script(filename:dirname(Folder))
    end.

%% The settings by which the registry asks this server about a zone, and trusts the keys of `test'.
%% The timeout is longer than any test: after half of it the question would be asked by TCP, which a
%% gate does not have.
settings(Zone, #{port := Port, folder := Folder}) ->
    {ok, Anchors} = file:read_file(filename:join(Folder, "test.anchors")),
    [{zone, Zone}, {servers, [{{127,0,0,1}, Port}]}, {trust_anchors, Anchors}, {timeout_ms, 1200000}].

record(Name, Key) ->
    [Name, " TXT \"v=ct1; k=", curve_tun:public_key_to_text(Key), "\"\n"].

%% The labels of a client and of a server at an IPv4 address.
client({A, B, C, D}) -> io_lib:format("~b.~b.~b.~b.in-addr", [D, C, B, A]).
server(Address) -> ["_curve_tun.", client(Address)].

%% A name server that forwards questions to a real one, and holds those that begin with certain
%% labels until it is opened. It ends with the calling process.
gate(#{port := Port} = Real, Labels) ->
    Caller = self(),
    Gate = spawn_link(fun() ->
               {ok, Udp} = gen_udp:open(0, [binary, {ip, {127,0,0,1}}, {active, true}]),
               {ok, Own} = inet:port(Udp),
               Caller ! {self(), Own},
               gate_loop(Udp, Port, Labels, #{})
           end),
    receive {Gate, Own} -> {Gate, Real#{port => Own}} end.

gate_loop(Udp, Port, Labels, Held) ->
    receive
        {udp, Udp, Host, From, <<_:12/binary, Size, Label:Size/binary, _/binary>> = Question} ->
            case lists:member(Label, Labels) of
                true ->
                    gate_loop(Udp, Port, Labels, Held#{Label => {Host, From, Question}});
                false ->
                    pass(Udp, Port, {Host, From, Question}),
                    gate_loop(Udp, Port, Labels, Held)
            end;
        {held, Pid} ->
            Pid ! {held, map_size(Held)},
            gate_loop(Udp, Port, Labels, Held);
        open ->
            [pass(Udp, Port, Question) || Question <- maps:values(Held)],
            gate_loop(Udp, Port, [], #{})
    end.

pass(Udp, Port, {Host, From, Question}) ->
    spawn_link(fun() ->
        {ok, Own} = gen_udp:open(0, [binary, {ip, {127,0,0,1}}, {active, false}]),
        ok = gen_udp:send(Own, {127,0,0,1}, Port, Question),
        {ok, {_, _, Answer}} = gen_udp:recv(Own, 0, ?PATIENCE),
        ok = gen_udp:send(Udp, Host, From, Answer),
        gen_udp:close(Own)
    end).

%% Returns how many labels it holds questions for.
held(Gate) ->
    Gate ! {held, self()},
    receive {held, Count} -> Count end.

open(Gate) ->
    Gate ! open,
    ok.
