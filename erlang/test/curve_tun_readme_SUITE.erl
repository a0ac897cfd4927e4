%%% The README's shell session, typed as it stands; the examples, as they are started by hand.
-module(curve_tun_readme_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {seconds, 90}}].

all() -> [the_shell_session, the_chat].

%% The folder of the application's source.
root() ->
    root(filename:dirname(filename:absname(code:which(?MODULE)))).

root(Folder) ->
    case filelib:is_regular(filename:join(Folder, "build_nif.sh")) of
        true -> Folder;
        false when Folder =/= "/" -> root(filename:dirname(Folder))
    end.

the_shell_session(_) ->
    {ok, Readme} = file:read_file(filename:join(root(), "README.md")),
    [_, Rest] = string:split(Readme, "```erlang\n"),
    [Session, _] = string:split(Rest, "```"),
    {ok, Tokens, _} = erl_scan:string(binary_to_list(Session)),
    Count = run(Tokens, [], [], 0),
    ?assert(Count >= 10),
    ok = application:stop(curve_tun).

%% Evaluates one expression after the other, with the variables bound before.
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
    [begin
         {os_pid, Pid} = erlang:port_info(P, os_pid),
         _ = os:cmd("kill " ++ integer_to_list(Pid)),
         port_close(P)
     end || P <- [First, Second, Server]].

start(Name, Arguments) ->
    Script = filename:join([root(), "examples", Name ++ ".escript"]),
    %% The programs run on what is tested here.
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
