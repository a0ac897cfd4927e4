%%% Which key of a server is trusted: each row of the table that Rust, C and Erlang share, on real
%%% sockets.
-module(curve_tun_trust_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(PATIENCE, 60000).

suite() -> [{timetrap, {seconds, 600}}].

all() -> [each_row_is_so].

init_per_suite(Config) ->
    Folder = proplists:get_value(priv_dir, Config),
    Peers = filename:join(Folder, "peers"),
    ok = file:write_file(Peers, <<>>),
    ok = curve_tun_test:start([{registry_file, Peers}]),
    {ok, Clients} = file:read_file(Peers),
    [{folder, Folder}, {peers, Peers}, {clients, Clients} | Config].

end_per_suite(_) -> curve_tun_test:stop().

%% Accepts every client, for as long as the listener lives.
accept_all(Listener) ->
    case curve_tun:accept(Listener, infinity) of
        {ok, _} -> accept_all(Listener);
        {error, closed} -> ok
    end.

rows() ->
    {ok, Text} = file:read_file(table(filename:dirname(code:which(?MODULE)))),
    Lines = binary:split(Text, <<"\n">>, [global, trim]),
    [binary:split(Line, <<" ">>, [global, trim_all]) || <<C, _/binary>> = Line <- Lines, C =/= $#].

%% rebar3 runs copies of the suites in a folder below erlang/.
table(Folder) ->
    Table = filename:join([Folder, "tests", "data", "trust.txt"]),
    case filelib:is_regular(Table) of
        true -> Table;
        false when Folder =/= "/" -> table(filename:dirname(Folder))
    end.

each_row_is_so(Config) ->
    {Listener, Port} = curve_tun_test:listen([{active, true}]),
    Acceptor = spawn(fun() -> accept_all(Listener) end),
    ok = curve_tun:controlling_process(Listener, Acceptor),
    Rows = rows(),
    %% tests/net/trust.rs checks that no row is missing.
    ?assert(length(Rows) > 200),
    [row(Words, N, Port, Config) || {N, Words} <- lists:enumerate(Rows)].

row([Given, Named, Known, FirstUse, Result, Offered, KnownBy, Written] = Words, N, Port, Config) ->
    File = filename:join(proplists:get_value(folder, Config), "known-" ++ integer_to_list(N)),
    Options = [{key, key(Given)} || Given =/= <<"-">>]
        ++ registry(Named, Port, Config)
        ++ [{known_servers, File} || Known =/= <<"-">>]
        ++ [{first_use, binary_to_atom(FirstUse)} || FirstUse =/= <<"-">>],
    _ = [ok = file:write_file(File, entries(Known, Port)) || Known =/= <<"-">>],
    Expected =
        case Result of
            <<"ok">> -> {ok, key(<<"server">>)};
            <<"key_changed">> -> {error, {key_changed, key(KnownBy), key(Offered)}};
            <<"key_denied">> -> {error, {key_denied, key(Offered)}};
            <<"unknown_peer">> -> {error, {unknown_peer, key(Offered)}};
            <<"no_key">> -> {error, {missing_option, key}};
            _ -> {error, binary_to_existing_atom(Result)}
        end,
    ?assertEqual({Words, Expected}, {Words, connect(Port, Options)}),
    case file:read_file(File) of
        {ok, Text} -> ?assertEqual({Words, iolist_to_binary([entries(Known, Port), entries(Written, Port)])}, {Words, Text});
        {error, enoent} -> <<"-">> = Known
    end.

connect(Port, Options) ->
    case curve_tun:connect({127,0,0,1}, Port, Options, ?PATIENCE) of
        {ok, Socket} ->
            {ok, Key} = curve_tun:peer_public_key(Socket),
            ok = curve_tun:close(Socket),
            {ok, Key};
        {error, Reason} ->
            {error, Reason}
    end.

%% One that knows no servers, or the file, which the listener also asks about clients.
registry(<<"-">>, _Port, _Config) ->
    [{registry, curve_tun_test_registry}];
registry(Named, Port, Config) ->
    ok = file:write_file(proplists:get_value(peers, Config), [proplists:get_value(clients, Config), entries(Named, Port)]),
    [{registry, curve_tun_simple_registry}].

key(<<"server">>) -> {ok, Key} = curve_tun:public_key(), Key;
key(<<"other">>) -> <<9:256/little>>;
key(<<"third">>) -> <<16:256/little>>.

entries(None, _Port) when None =:= <<"-">>; None =:= <<"none">> ->
    <<>>;
entries(Words, Port) ->
    iolist_to_binary([entry(Word, integer_to_list(Port)) || Word <- binary:split(Words, <<",">>, [global])]).

entry(<<"!", Denied/binary>>, _Port) -> ["! ", text(Denied), $\n];
entry(Word, Port) -> ["[127.0.0.1]:", Port, $\s, text(Word), $\n].

text(Word) -> curve_tun:public_key_to_text(key(Word)).
