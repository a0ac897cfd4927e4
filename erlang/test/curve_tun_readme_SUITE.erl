%%% The README's shell session, typed exactly as written, and its other blocks; the examples,
%%% started as by hand.
-module(curve_tun_readme_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {seconds, 90}}].

all() -> [the_shell_session, the_stream, the_stream_echo, the_user_who_is_asked, the_lines_for_telemetry, every_block_is_run, the_chat].

%% The folder of the application's source.
root() ->
    root(filename:dirname(filename:absname(code:which(?MODULE)))).

root(Folder) ->
    case filelib:is_regular(filename:join(Folder, "build_nif.sh")) of
        true -> Folder;
        false when Folder =/= "/" -> root(filename:dirname(Folder))
    end.

%% The text of a block.
block(Mark) ->
    {ok, Readme} = file:read_file(filename:join(root(), "README.md")),
    [_, Rest] = string:split(Readme, ["```", Mark, "\n"]),
    [Block, _] = string:split(Rest, "```"),
    binary_to_list(Block).

the_shell_session(_) ->
    {ok, Tokens, _} = erl_scan:string(block("erlang session")),
    Count = run(Tokens, [], [], 0),
    ?assert(Count >= 10),
    ok = application:stop(curve_tun).

the_stream(_) ->
    {ok, Tokens, _} = erl_scan:string(block("erlang stream")),
    Count = run(Tokens, [], [], 0),
    ?assert(Count >= 10),
    ok = application:stop(curve_tun).

the_stream_echo(_) ->
    ok = curve_tun_test:start(),
    {ok, Own} = curve_tun:public_key(),
    Server = start("stream_echo", [binary_to_list(curve_tun:public_key_to_text(Own))]),
    [Port, Text] = wait(Server, <<"listening on [0-9.]+:([0-9]+) as (\\S+)\n">>),
    {ok, Key} = curve_tun:public_key_from_text(Text),
    Connect = fun() -> {ok, S} = curve_tun:connect("127.0.0.1", list_to_integer(Port), [{key, Key}, {packet, raw}]), S end,
    Whole = Connect(),
    Bytes = rand:bytes(1000000),
    ok = curve_tun:send(Whole, Bytes),
    ok = curve_tun:shutdown(Whole, write),
    {ok, Bytes} = curve_tun:recv(Whole, 1000000, 30000),
    {error, closed} = curve_tun:recv(Whole, 1, 30000),
    [_] = wait(Server, <<"(1000000 bytes and the end)\n">>),
    Part = Connect(),
    ok = curve_tun:send(Part, "some of it"),
    {ok, <<"some of it">>} = curve_tun:recv(Part, 10, 30000),
    ok = curve_tun_stream:abort(Part, 4),
    [_] = wait(Server, <<"(10 bytes, then the peer is shutting down)\n">>),
    kill(Server),
    curve_tun_test:stop().

%% With a server of this machine in place of db.example.org. Once the key is remembered, nobody is
%% asked.
the_user_who_is_asked(Config) ->
    Folder = filename:join(proplists:get_value(priv_dir, Config), asked),
    ok = file:make_dir(Folder),
    [Peers, Known] = [filename:join(Folder, Name) || Name <- ["peers", "known"]],
    ok = file:write_file(Peers, <<>>),
    ok = curve_tun_test:start([{registry_file, Peers}]),
    {Listener, Port} = curve_tun_test:listen(),
    {ok, Key} = curve_tun:public_key(),
    Line = ["[localhost]:", integer_to_list(Port), " ", curve_tun:public_key_to_text(Key), "\n"],
    {ok, Clients} = file:read_file(Peers),
    ok = file:write_file(Peers, [Clients | Line]),
    Text = lists:foldl(fun replace/2, block("erlang ask"),
                       [{"db.example.org", "localhost"}, {"7000", integer_to_list(Port)},
                        {"/home/me/.known", Known}]),
    {ok, Tokens, _} = erl_scan:string(Text),
    {ok, Expressions} = erl_parse:parse_exprs(Tokens),
    [begin
         user_says(Answer),
         Test = self(),
         spawn_link(fun() ->
                        {ok, Server} = curve_tun:accept(Listener, 30000),
                        Test ! accepted,
                        {error, closed} = curve_tun:recv(Server)
                    end),
         {value, {ok, Client}, _} = erl_eval:exprs(Expressions, []),
         receive accepted -> ok end,
         ok = curve_tun:close(Client),
         ?assertEqual({ok, iolist_to_binary(Line)}, file:read_file(Known))
     end || Answer <- ["remember", "exit(asked)"]],
    curve_tun_test:stop().

replace({Old, New}, Text) ->
    [Before, After] = string:split(Text, Old),
    lists:append([Before, New, After]).

%% The README's module your_user, with this answer.
user_says(Answer) ->
    module(your_user, "says/3", "says(_, _, _) -> " ++ Answer ++ ".").

module(Name, Exported, Function) ->
    {ok, Tokens, _} = erl_scan:string("-module(" ++ atom_to_list(Name) ++ "). -export([" ++ Exported ++ "]). " ++ Function),
    {ok, Name, Beam} = compile:forms(forms(Tokens, [])),
    {module, Name} = code:load_binary(Name, atom_to_list(Name), Beam).

%% In a module exactly as written, with a library that reports to this process.
the_lines_for_telemetry(_) ->
    module(telemetry, "execute/3", "execute(Name, Measurements, Metadata) -> sink ! {Name, Measurements, Metadata}."),
    {ok, Tokens, _} = erl_scan:string("-module(your_metrics). " ++ block("erlang telemetry")),
    {ok, your_metrics, Beam} = compile:forms(forms(Tokens, [])),
    {module, your_metrics} = code:load_binary(your_metrics, "your_metrics", Beam),
    register(sink, self()),
    ok = curve_tun_test:start([{event_handler, {your_metrics, []}}]),
    curve_tun_test:stop_pair(curve_tun_test:pair()),
    [receive {[curve_tun, Event], #{duration_ms := _}, #{peer := _}} -> ok end
     || Event <- [accepted, connected, closed, closed]],
    unregister(sink),
    curve_tun_test:stop().

forms([], []) ->
    [];
forms([{dot, _} = Dot | Tokens], Form) ->
    {ok, Parsed} = erl_parse:parse_form(lists:reverse([Dot | Form])),
    [Parsed | forms(Tokens, [])];
forms([Token | Tokens], Form) ->
    forms(Tokens, [Token | Form]).

%% Run by this suite; `sh tests' by scripts/test, and the dependencies by
%% scripts/check-dependencies.
every_block_is_run(Config) ->
    Folder = filename:join(proplists:get_value(priv_dir, Config), blocks),
    ok = file:make_dir(Folder),
    Top = filename:dirname(root()),
    Port = open_port({spawn_executable, filename:join([Top, "scripts", "blocks"])},
                     [{args, [filename:join(root(), "README.md"), Folder]}, exit_status]),
    receive {Port, {exit_status, Status}} -> ?assertEqual(0, Status) end,
    {ok, Files} = file:list_dir(Folder),
    Expected = ["ask.named", "mix.named", "named", "rebar.named", "session.named", "stream.named", "telemetry.named", "tests.named"],
    ?assertEqual(Expected, lists:sort(Files)).

%% Evaluates one expression after the other, with the variables bound so far.
run([], [], _Bindings, Count) ->
    Count;
run([{dot, _} = Dot | Tokens], Expression, Bindings, Count) ->
    {ok, Expressions} = erl_parse:parse_exprs(lists:reverse([Dot | Expression])),
    {value, _, New} = erl_eval:exprs(Expressions, Bindings),
    run(Tokens, [], New, Count + 1);
run([Token | Tokens], Expression, Bindings, Count) ->
    run(Tokens, [Token | Expression], Bindings, Count).

the_chat(_) ->
    Server = start("chat_server", ["0"]),
    [Port, ServerKey] = wait(Server, <<"listening on port ([0-9]+) as (\\S+)\n">>),
    Clients = [begin
                   Client = start("chat_client", ["127.0.0.1", Port, ServerKey]),
                   [Key] = wait(Client, <<"I am (\\S+)\n">>),
                   true = port_command(Server, [Key, "\n"]),
                   _ = wait(Server, <<"(may come in)\n">>),
                   true = port_command(Client, "\n"),
                   _ = wait(Server, <<"(has joined)\n">>),
                   Client
               end || _ <- [1, 2]],
    [First, Second] = Clients,
    true = port_command(First, "good evening\n"),
    [_] = wait(Second, <<"(: good evening)\n">>),
    true = port_command(Second, "good evening to you\n"),
    [_] = wait(First, <<"(: good evening to you)\n">>),
    [kill(P) || P <- [First, Second, Server]].

kill(Port) ->
    {os_pid, Pid} = erlang:port_info(Port, os_pid),
    _ = os:cmd("kill " ++ integer_to_list(Pid)),
    port_close(Port).

start(Name, Arguments) ->
    Script = filename:join([root(), "examples", Name ++ ".escript"]),
    %% The programs run on the code under test.
    %% Not code:which/1: it names no file of a module whose coverage is counted.
    {_, _, Beam} = code:get_object_code(curve_tun),
    Path = "-pa '" ++ filename:dirname(filename:absname(Beam)) ++ "'",
    open_port({spawn_executable, os:find_executable("escript")},
              [{args, [Script | Arguments]}, {env, [{"ERL_FLAGS", Path}]}, binary, exit_status, stderr_to_stdout, use_stdio]).

%% Waits for a line of output.
wait(Port, Pattern) ->
    wait(Port, Pattern, <<>>).

wait(Port, Pattern, Output) ->
    case re:run(Output, Pattern, [{capture, all_but_first, list}]) of
        {match, Found} -> Found;
        nomatch ->
            receive
                {Port, {data, Data}} -> wait(Port, Pattern, <<Output/binary, Data/binary>>);
                {Port, {exit_status, Status}} -> ct:fail({Status, Output})
            after 30000 -> ct:fail({silent, Output})
            end
    end.
