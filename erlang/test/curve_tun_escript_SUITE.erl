%%% The application inside an escript's archive, with the NIF in a separate file.
-module(curve_tun_escript_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {seconds, 120}}].

all() -> [an_escript_finds_its_nif].

an_escript_finds_its_nif(Config) ->
    Folder = filename:absname(proplists:get_value(priv_dir, Config)),
    {_, _, Beam} = code:get_object_code(curve_tun),
    Ebin = filename:dirname(filename:absname(Beam)),
    Files = [begin
                 {ok, Content} = file:read_file(File),
                 {"curve_tun/ebin/" ++ filename:basename(File), Content}
             end || File <- filelib:wildcard(filename:join(Ebin, "curve_tun*.{beam,app}"))],
    Main = "-module(hello). -export([main/1]). main(_) -> "
           "code:add_patha(filename:join([escript:script_name(), curve_tun, ebin])), "
           "{ok, _} = application:ensure_all_started(curve_tun), "
           "{ok, Key} = curve_tun:public_key(), io:format(\"~b bytes~n\", [byte_size(Key)]).",
    Script = filename:join(Folder, "hello"),
    Source = filename:join(Folder, "hello.erl"),
    ok = file:write_file(Source, Main),
    {ok, hello, Code} = compile:file(Source, [binary]),
    ok = escript:create(Script, [shebang, {emu_args, "-escript main hello"},
                                 {archive, [{"hello.beam", Code} | Files], []}]),
    Nif = filename:join(Folder, "elsewhere.so"),
    {ok, _} = file:copy(filename:join([filename:dirname(Ebin), "priv", "curve_tun_nif.so"]), Nif),
    ?assertEqual("32 bytes\n", said(Script, [{"CURVE_TUN_NIF", Nif}])),
    %% Without it there is only the archive.
    ?assertNotEqual(nomatch, string:find(said(Script, [{"CURVE_TUN_NIF", false}]), "curve_tun")).

said(Script, Environment) ->
    Port = open_port({spawn_executable, os:find_executable("escript")},
                     [{args, [Script]}, {env, Environment}, {cd, filename:dirname(Script)}, exit_status, stderr_to_stdout]),
    output(Port, "").

output(Port, Said) ->
    receive
        {Port, {data, Data}} -> output(Port, Said ++ Data);
        {Port, {exit_status, _}} -> Said
    end.
