%%% C and Erlang talk to each other: the programs of c-examples at one end, this application at the
%%% other, transferring a real file, and the C library's errors where a peer is refused.
-module(curve_tun_interop_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {seconds, 120}}].

all() -> [a_c_client_and_a_server_here, a_client_here_and_a_c_server, a_client_here_and_a_c_server_on_epoll,
          a_c_client_that_is_not_known].

init_per_suite(Config) ->
    %% Building the programs takes longer than any test.
    ct:timetrap({minutes, 30}),
    Root = root(filename:dirname(filename:absname(code:which(?MODULE)))),
    Build = filename:join(Root, "build"),
    _ = [{0, _} = run("make", ["-C", Root, "--no-print-directory", "examples"], 900000)
         || not lists:all(fun(Program) -> filelib:is_regular(filename:join(Build, Program)) end,
                          ["keygen", "echo_client", "echo_server", "epoll_server"])],
    ok = curve_tun_test:start(),
    [{build, Build} | Config].

end_per_suite(_) -> curve_tun_test:stop().

%% The repository's root, above this folder.
root(Folder) ->
    case filelib:is_regular(filename:join([Folder, "c-examples", "keygen.c"])) of
        true -> Folder;
        false when Folder =/= "/" -> root(filename:dirname(Folder))
    end.

%% Starts a program; its output and its end arrive as messages of the port.
start(Program, Arguments) ->
    open_port({spawn_executable, os:find_executable(Program)},
              [{args, Arguments}, binary, exit_status, stderr_to_stdout, use_stdio]).

%% Runs a program to its end.
run(Program, Arguments, Patience) ->
    finish(start(Program, Arguments), <<>>, Patience).

finish(Port, Output, Patience) ->
    receive
        {Port, {data, Data}} -> finish(Port, <<Output/binary, Data/binary>>, Patience);
        {Port, {exit_status, Status}} -> {Status, Output}
    after Patience -> ct:fail({hangs, Output})
    end.

build(Config, Program) ->
    filename:join(proplists:get_value(build, Config), Program).

%% Makes a key pair; returns the public key, and a file with the secret one, which never enters this
%% node.
keys(Config, Name) ->
    File = filename:join(proplists:get_value(priv_dir, Config), Name ++ ".secret"),
    {0, Public} = run("/bin/sh", ["-c", "umask 077; '" ++ build(Config, "keygen") ++ "' | { read -r _ a; read -r _ b;"
                                  " printf %s \"$b\" >'" ++ File ++ "'; printf %s \"$a\"; }"], 10000),
    {ok, Key} = curve_tun:public_key_from_text(Public),
    {Key, Public, "@" ++ File}.

own_text() ->
    {ok, Key} = curve_tun:public_key(),
    curve_tun:public_key_to_text(Key).

%% Returns a real file of some size: the NIF itself.
file() ->
    filename:join(code:priv_dir(curve_tun), "curve_tun_nif.so").

echo(Listener) ->
    case curve_tun:accept(Listener, infinity) of
        {ok, Socket} ->
            ok = curve_tun:setopts(Socket, [{active, once}]),
            echo_all(Socket),
            echo(Listener);
        {error, closed} ->
            ok
    end.

echo_all(Socket) ->
    receive
        {curve_tun, Socket, Message} ->
            ok = curve_tun:send(Socket, Message),
            ok = curve_tun:setopts(Socket, [{active, once}]),
            echo_all(Socket);
        {curve_tun_closed, Socket} ->
            ok
    end.

a_c_client_and_a_server_here(Config) ->
    {Key, _, Secret} = keys(Config, "client"),
    ok = curve_tun_simple_registry:register({127,0,0,1}, Key),
    {Listener, Port} = curve_tun_test:listen(),
    spawn_link(fun() -> echo(Listener) end),
    {Status, Output} = run(build(Config, "echo_client"),
                           ["127.0.0.1", integer_to_list(Port), Secret, own_text(), "--file", file()], 60000),
    ?assertEqual({0, Output}, {Status, Output}),
    ok = curve_tun:close(Listener).

a_client_here_and_a_c_server(Config) ->
    there_and_back(Config, "echo_server").

a_client_here_and_a_c_server_on_epoll(Config) ->
    there_and_back(Config, "epoll_server").

there_and_back(Config, Program) ->
    {Key, _, Secret} = keys(Config, Program),
    Server = start(build(Config, Program), ["127.0.0.1", "0", Secret, own_text()]),
    Port = listening(Server, <<>>),
    {ok, Socket} = curve_tun:connect({127,0,0,1}, Port, [{key, Key}], 10000),
    {ok, File} = file:read_file(file()),
    Messages = pieces(File),
    spawn_link(fun() -> [ok = curve_tun:send(Socket, Message) || Message <- Messages] end),
    ?assertEqual(erlang:md5(File), erlang:md5([curve_tun:recv(Socket, 30000) || _ <- Messages])),
    ok = curve_tun:close(Socket),
    {os_pid, Pid} = erlang:port_info(Server, os_pid),
    _ = os:cmd("kill " ++ integer_to_list(Pid)),
    {0, _} = finish(Server, <<>>, 10000).

listening(Server, Output) ->
    case re:run(Output, "listening on 127\\.0\\.0\\.1:([0-9]+)\n", [{capture, all_but_first, list}]) of
        {match, [Port]} ->
            list_to_integer(Port);
        nomatch ->
            receive
                {Server, {data, Data}} -> listening(Server, <<Output/binary, Data/binary>>);
                {Server, {exit_status, Status}} -> ct:fail({Status, Output})
            after 10000 -> ct:fail({does_not_listen, Output})
            end
    end.

pieces(<<Piece:60000/binary, Rest/binary>>) -> [Piece | pieces(Rest)];
pieces(Rest) -> [Rest].

a_c_client_that_is_not_known(Config) ->
    {_, _, Secret} = keys(Config, "stranger"),
    {Listener, Port} = curve_tun_test:listen(),
    spawn_link(fun() -> {error, closed} = curve_tun:accept(Listener, infinity) end),
    {Status, _} = run(build(Config, "echo_client"),
                      ["127.0.0.1", integer_to_list(Port), Secret, own_text(), "--file", file()], 60000),
    ?assertNotEqual(0, Status),
    ok = curve_tun:close(Listener).
