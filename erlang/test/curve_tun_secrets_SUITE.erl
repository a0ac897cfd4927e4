%%% No secret in the BEAM: after many connections everything that can be dumped is searched for each
%%% secret.
%%%
%%% The known secret key is the dummy vault's long-term key. Unknown secret keys are recognised by
%%% their effect: a 32-byte run in the dump whose public key is one in use would be one, so every
%%% such run is tried.
-module(curve_tun_secrets_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {seconds, 300}}].

all() ->
    [a_planted_secret_is_found, no_secret_after_a_thousand_connections, crash_reports_show_nothing,
     status_shows_no_messages].

%% The dummy's secret, reversed so that this file and its literals do not contain it.
secret() ->
    << <<(B bxor 16#ff)>> || <<B>> <= <<176,250,186,136,210,197,79,28,242,214,37,87,21,65,28,113,95,38,26,48,7,222,245,
                                       171,71,122,37,17,162,215,211,98>> >>.

init_per_suite(Config) ->
    ok = logger:set_primary_config(level, critical),
    ok = curve_tun_test:start([{vault_providers, [curve_tun_vault_dummy]}]),
    Config.
end_per_suite(_) ->
    curve_tun_test:stop(),
    logger:set_primary_config(level, notice).

%% The forms in which a secret could appear.
forms(Secret) ->
    Hex = binary:encode_hex(Secret),
    List = list_to_binary(lists:join(",", [integer_to_list(B) || <<B>> <= Secret])),
    [Secret, binary:part(Secret, 0, 16), binary:part(Secret, 16, 16), Hex, string:lowercase(Hex),
     base64:encode(Secret), List, << <<B, 0>> || <<B>> <= Secret >>].

%% Everything of the node that can be turned into bytes. The backtraces are text.
dump() ->
    Self = self(),
    %% Each in a separate process: many do not handle system messages, and leave the caller waiting.
    Lookers = [spawn_monitor(fun() -> exit({seen, seen_of(P)}) end) || P <- processes(), P =/= Self],
    Processes = [receive {'DOWN', Ref, process, _, {seen, Seen}} -> Seen end || {_, Ref} <- Lookers],
    Tables = [try {T, ets:info(T), ets:tab2list(T)} catch _:_ -> T end || T <- ets:all()],
    Environment = [{A, application:get_all_env(A)} || {A, _, _} <- application:loaded_applications()],
    [flat([Processes, Tables, Environment, persistent_term:get()])].

seen_of(P) ->
    State = try sys:get_state(P, 1000) catch _:_ -> none end,
    Status = try sys:get_status(P, 1000) catch _:_ -> none end,
    {erlang:process_info(P), erlang:process_info(P, [dictionary, messages, backtrace, current_stacktrace, links, monitors,
                                                     binary]),
     State, Status}.

%% Returns every binary and every list of bytes in a term, one after the other; printed text is not
%% enough for those.
flat(Term) ->
    iolist_to_binary(bytes(Term)).

bytes(B) when is_binary(B) -> [B, 1];
bytes(B) when is_bitstring(B) -> [];
bytes([H | T]) when is_integer(H), H >= 0, H < 256 -> [H | bytes(T)];
bytes([H | T]) -> [bytes(H) | bytes(T)];
bytes(T) when is_tuple(T) -> bytes(tuple_to_list(T));
bytes(M) when is_map(M) -> bytes(maps:to_list(M));
bytes(I) when is_integer(I), I >= 0 -> binary:encode_unsigned(I);
bytes(F) when is_function(F) -> bytes(element(2, erlang:fun_info(F, env)));
bytes(_) -> [].

found(Secret, Dump) ->
    [Form || Form <- forms(Secret), Part <- Dump, binary:match(Part, Form) =/= nomatch].

%% In each form the secret is found while a process holds it, and not after that has ended.
a_planted_secret_is_found(_) ->
    Test = self(),
    Planted = [fun(Secret) -> Secret end, fun binary:encode_hex/1, fun base64:encode/1, fun binary_to_list/1,
               fun(Secret) -> io_lib:format("~w", [binary_to_list(Secret)]) end],
    Holders = [spawn_monitor(fun() -> put(planted, Plant(secret())), Test ! planted, receive stop -> ok end end)
               || Plant <- Planted],
    [receive planted -> ok end || _ <- Holders],
    Found = found(secret(), dump()),
    [Raw, _, _, Hex, _, Base64, List, _] = forms(secret()),
    [?assert(lists:member(Form, Found)) || Form <- [Raw, Hex, Base64, List]],
    [begin Pid ! stop, receive {'DOWN', Ref, process, Pid, _} -> ok end end || {Pid, Ref} <- Holders],
    ?assertEqual([], found(secret(), dump())).

no_secret_after_a_thousand_connections(_) ->
    {Listener, Port} = curve_tun_test:listen(),
    Acceptor = spawn_link(fun Loop() ->
                   {ok, S} = curve_tun:accept(Listener, infinity),
                   ok = curve_tun:send(S, curve_tun:recv(S)),
                   Loop()
               end),
    Sockets = [begin
                   {ok, S} = curve_tun_test:connect(Port),
                   ok = curve_tun:send(S, <<N:32>>),
                   <<N:32>> = curve_tun:recv(S),
                   N rem 10 =:= 0 orelse curve_tun:close(S),
                   S
               end || N <- lists:seq(1, 1000)],
    Test = self(),
    Dump = dump(),
    ?assertEqual([], found(secret(), Dump)),
    {ok, Key} = curve_tun:public_key(),
    %% The dump is not empty: a public key that a process holds is in it.
    Holder = spawn_link(fun() -> put(key, Key), Test ! held, receive stop -> ok end end),
    receive held -> ok end,
    ?assertNotEqual([], found(Key, dump())),
    Holder ! stop,
    [ok = curve_tun:close(S) || S <- Sockets],
    unlink(Acceptor),
    exit(Acceptor, kill),
    ok = curve_tun:close(Listener).

crash_reports_show_nothing(_) ->
    Id = curve_tun_test:forward_log(debug),
    {Client, Server} = Pair = curve_tun_test:pair(),
    ok = curve_tun:send(Client, <<"a message that nobody may see">>),
    curve_tun_test:until(fun() -> waiting(Server) > 0 end),
    %% Crashes from within: the data of the process could be in the report.
    [begin
         catch sys:replace_state(Pid, fun(_) -> error(on_purpose) end),
         exit(Pid, on_purpose),
         exit(Pid, kill)
     end || {curve_tun_socket, Pid, _, _} <- [Client, Server]],
    [exit(whereis(Name), kill) || Name <- [curve_tun_vault_dummy, curve_tun_cookie, curve_tun_simple_registry]],
    {Client2, Server2} = curve_tun_test:pair(),
    {curve_tun_socket, Victim, _, _} = Server2,
    ok = curve_tun:send(Client2, <<"a message that nobody may see">>),
    curve_tun_test:until(fun() -> waiting(Server2) > 0 end),
    %% An event that makes it crash in its own code, with its data at hand.
    {_, Data} = sys:get_state(Victim),
    _ = sys:replace_state(Victim, fun({connected, _}) -> {connected, setelement(2, Data, not_data)} end),
    Victim ! {tcp_closed, curve_tun_test:tcp_socket(Server2)},
    timer:sleep(500),
    ok = logger:remove_handler(Id),
    ok = logger:set_primary_config(level, critical),
    Reports = [flat(logged()), iolist_to_binary(io_lib:format("~w ~p", [logged_again(), logged_again()]))],
    ?assertEqual([], found(secret(), Reports)),
    [?assertEqual(nomatch, binary:match(Report, <<"nobody may see">>)) || Report <- Reports],
    _ = Pair,
    curve_tun:close(Client2).

waiting({curve_tun_socket, Pid, _, _}) ->
    #{waiting_bytes := Bytes} = shown(Pid),
    Bytes.

shown(Pid) ->
    {status, _, _, [_, _, _, _, Items]} = sys:get_status(Pid),
    hd([Data || {data, [{"State", {_, Data}}]} <- Items]).

%% Returns the logged events, read once and kept for several searches.
logged() ->
    Events = collected(),
    put(logged, Events),
    Events.

logged_again() ->
    get(logged).

collected() ->
    receive {log, Event} -> [Event | collected()] after 0 -> [] end.

status_shows_no_messages(_) ->
    {Client, Server} = Pair = curve_tun_test:pair(),
    ok = curve_tun:send(Client, <<"a message that nobody may see">>),
    curve_tun_test:until(fun() -> waiting(Server) > 0 end),
    {curve_tun_socket, Pid, _, _} = Server,
    Status = flat(sys:get_status(Pid)),
    ?assertEqual(nomatch, binary:match(Status, <<"nobody may see">>)),
    curve_tun_test:stop_pair(Pair).
