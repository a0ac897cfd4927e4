%%% @private
%%% Vaults and registries: choosing one, and calling one written in Erlang.
%%%
%%% A provider of the user may crash, hang or return garbage. So it is only ever called from a
%%% separate process, and whatever it does refuses at most one client. Calls for peers take turns
%%% (curve_tun_fair_queue).
-module(curve_tun_provider).

-export([configured/1, chosen/2, is_provider/2, exports/3, has_process/1, vault_handle/2, registry_handle/1, server_keys/4]).
-export([max_concurrency/3, call/2, run/3, end_with/2, start/2, answer_of/3]).
-export_type([provider/0, providers/0]).

-type provider() :: {module(), AtOnce :: pos_integer()}.
%% A provider, and how many calls it works on at once. Native providers have that limit in the NIF.
-type providers() :: #{vault => provider(), registry => provider(), socket => gen_tcp:socket(),
                       source => curve_tun_fair_queue:source()}.

%% The number of concurrent calls for a module that does not name one and has no process.
-define(AT_ONCE, 256).

%% Returns the providers named in the application's environment.
-spec configured(vault_providers | registry_providers) -> [module()].
configured(Key) ->
    application:get_env(curve_tun, Key, []).

%% Returns the provider that the options name, or the first configured one.
-spec chosen(vault | registry, map()) -> {ok, module()} | {error, {no_provider, vault | registry}}.
chosen(Kind, Options) ->
    Key = case Kind of vault -> vault_providers; registry -> registry_providers end,
    case {Options, configured(Key)} of
        {#{Kind := Module}, _} -> {ok, Module};
        {_, [Module | _]} -> {ok, Module};
        {_, []} -> {error, {no_provider, Kind}}
    end.

%% Says whether the module exists and is of this kind: a registry that only knows servers lets
%% nobody in.
-spec is_provider(vault | registry | servers, term()) -> boolean().
is_provider(_Kind, Module) when not is_atom(Module) -> false;
is_provider(Kind, Module) -> lists:any(fun(Of) -> lists:all(fun({F, A}) -> exports(Module, F, A) end, Of) end, callbacks(Kind)).

%% Each of these lists is sufficient.
-spec callbacks(vault | registry | servers) -> [[{atom(), arity()}]].
callbacks(vault) -> [[{handle, 0}], [{public_key, 0}, {box, 3}, {box_open, 3}, {safe_nonce, 0}]];
callbacks(registry) -> [[{handle, 0}], [{verify, 2}], [{verify, 3}]];
callbacks(servers) -> [[{server_keys, 2}] | callbacks(registry)].

-spec has_process(module()) -> boolean().
has_process(Module) ->
    exports(Module, start_link, 0).

%% Returns the vault's handle for the NIF. For a vault written in Erlang this asks it for its public
%% key.
-spec vault_handle(module(), curve_tun_time:deadline()) -> {ok, curve_tun_nif:vault()} | {error, atom()}.
vault_handle(Module, Deadline) ->
    case exports(Module, handle, 0) of
        true ->
            Module:handle();
        false ->
            case call(fun() -> Module:public_key() end, Deadline) of
                {ok, <<Key:32/binary>>} -> {ok, curve_tun_nif:vault_later(Key)};
                {error, timeout} -> {error, timeout};
                _ -> {error, vault_failed}
            end
    end.

-spec registry_handle(module()) -> {ok, curve_tun_nif:registry()} | {error, atom()}.
registry_handle(Module) ->
    case exports(Module, handle, 0) of
        true -> Module:handle();
        false -> {ok, curve_tun_nif:registry_later()}
    end.

%% Returns how many calls a provider works on at once. It may name the number; one with a process of
%% its own, which answers one call after another, has 1. Native providers are not asked here.
-spec max_concurrency(vault | registry, module(), curve_tun_time:deadline()) -> {ok, pos_integer()} | {error, atom()}.
max_concurrency(Kind, Module, Deadline) ->
    case {exports(Module, handle, 0), exports(Module, max_concurrency, 0), has_process(Module)} of
        {true, _, _} -> {ok, 1};
        {false, true, _} -> said_at_once(Kind, call(fun() -> Module:max_concurrency() end, Deadline));
        {false, false, true} -> {ok, 1};
        {false, false, false} -> {ok, ?AT_ONCE}
    end.

-spec said_at_once(vault | registry, {ok, term()} | {error, timeout | failed}) -> {ok, pos_integer()} | {error, atom()}.
said_at_once(_Kind, {ok, N}) when is_integer(N), N > 0 -> {ok, N};
said_at_once(_Kind, {error, timeout}) -> {error, timeout};
said_at_once(vault, _) -> {error, vault_failed};
said_at_once(registry, _) -> {error, registry_failed}.

%% Returns the keys that a server may have, or `enotsup' from a registry that knows no servers.
-spec server_keys(module(), Host :: binary(), inet:port_number(), curve_tun_time:deadline()) ->
          {ok, [curve_tun:public_key(), ...]} | {error, atom()}.
server_keys(Module, Host, Port, Deadline) ->
    case exports(Module, server_keys, 2) andalso call(fun() -> Module:server_keys(Host, Port) end, Deadline) of
        false ->
            {error, enotsup};
        {ok, {ok, [_ | _] = Keys}} ->
            case are_keys(Keys) of
                true -> {ok, Keys};
                false -> {error, registry_failed}
            end;
        {ok, {error, Reason}} when is_atom(Reason) ->
            {error, Reason};
        {error, timeout} ->
            {error, timeout};
        _ ->
            {error, registry_failed}
    end.

-spec are_keys(term()) -> boolean().
are_keys([]) -> true;
are_keys([<<_:32/binary>> | Keys]) -> are_keys(Keys);
are_keys(_) -> false.

-spec exports(module(), atom(), arity()) -> boolean().
exports(Module, Function, Arity) ->
    _ = code:ensure_loaded(Module),
    erlang:function_exported(Module, Function, Arity).

%% Runs `Fun' in a separate process, which ends with its caller and leaves no crash report: failures
%% of the provider stay its own, as does the fate of processes that it links to.
-spec call(fun(() -> Value), curve_tun_time:deadline()) -> {ok, Value} | {error, timeout | failed}.
call(Fun, Deadline) ->
    Tag = make_ref(),
    {Helper, Monitor} = spawn_monitor(?MODULE, run, [self(), Tag, Fun]),
    receive
        {'DOWN', Monitor, process, Helper, {Tag, Result}} -> Result;
        {'DOWN', Monitor, process, Helper, _} -> {error, failed}
    after curve_tun_time:left(Deadline) ->
        demonitor(Monitor, [flush]),
        exit(Helper, kill),
        {error, timeout}
    end.

%% The body of that process.
-spec run(pid(), reference(), fun(() -> term())) -> no_return().
run(Caller, Tag, Fun) ->
    _ = spawn(?MODULE, end_with, [Caller, self()]),
    exit({Tag, attempt(Fun)}).

%% Ends the helper when its caller ends.
-spec end_with(pid(), pid()) -> true.
end_with(Caller, Helper) ->
    [OfCaller, _] = [monitor(process, Pid) || Pid <- [Caller, Helper]],
    receive
        {'DOWN', OfCaller, _, _, _} -> exit(Helper, kill);
        {'DOWN', _, _, _, _} -> true
    end.

-spec attempt(fun(() -> Value)) -> {ok, Value} | {error, failed}.
attempt(Fun) ->
    try {ok, Fun()}
    catch _:_ -> {error, failed}
    end.

%% Has a request answered by a process linked to the caller, which sends `{Ref, Answer}' and exits.
%% If the caller ends first, `curve_tun_fair_queue' ends that process.
-spec start(curve_tun_nif:request(), providers()) -> {pid(), reference()}.
start(Request, Providers) ->
    Connection = self(),
    Ref = make_ref(),
    {spawn_link(?MODULE, answer_of, [{Connection, Ref}, Request, Providers]), Ref}.

%% The body of that process.
-spec answer_of({pid(), reference()}, curve_tun_nif:request(), providers()) -> ok.
answer_of({Connection, Ref}, Request, Providers) ->
    Answer = try ask(Request, Connection, Providers)
             catch _:_ -> failed(Request)
             end,
    Connection ! {Ref, Answer},
    ok.

-spec failed(curve_tun_nif:request()) -> curve_tun_nif:answer().
failed({verify, _, _, _}) -> {failed, verify};
failed(_) -> {failed, vault}.

%% Any result that is not documented fails to match here, and so is a failure.
-spec ask(curve_tun_nif:request(), pid(), providers()) -> curve_tun_nif:answer().
ask({answer_hello, ClientShort, Hello, HelloNonce, Cookie, Prefix}, Connection, Providers) ->
    Vault = turn(vault, Connection, Providers),
    {ok, <<0:512>>} = in_turn(Vault, box_open, [Hello, HelloNonce, ClientShort]),
    {Nonce, Box} = box(Vault, Cookie, Prefix, ClientShort),
    {hello_answered, Nonce, Box};
ask({seal_vouch, Server, Message, Prefix}, Connection, Providers) ->
    {Nonce, Box} = box(turn(vault, Connection, Providers), Message, Prefix, Server),
    {vouch_sealed, Nonce, Box};
ask({open_vouch, Client, Vouch, Nonce}, Connection, Providers) ->
    {ok, <<Message:32/binary>>} = in_turn(turn(vault, Connection, Providers), box_open, [Vouch, Nonce, Client]),
    {vouch_opened, Message};
ask({verify, Address, Key, Listener}, Connection, #{registry := {Module, _}, socket := Socket} = Providers) ->
    Registry = turn(registry, Connection, Providers),
    Verdict = case exports(Module, verify, 3) of
                  true -> in_turn(Registry, verify, [Socket, Key, #{address => Address, listener => Listener}]);
                  false -> in_turn(Registry, verify, [Socket, Key])
              end,
    true = is_boolean(Verdict),
    {verdict, Verdict}.

-spec box(curve_tun_fair_queue:turn(), binary(), binary(), curve_tun:public_key()) -> {binary(), binary()}.
box(Vault, Message, Prefix, Peer) ->
    <<Nonce:16/binary>> = in_turn(Vault, safe_nonce, []),
    Box = in_turn(Vault, box, [Message, <<Prefix/binary, Nonce/binary>>, Peer]),
    true = byte_size(Box) =:= byte_size(Message) + 16,
    {Nonce, Box}.

-spec turn(vault | registry, pid(), providers()) -> curve_tun_fair_queue:turn().
turn(Kind, Connection, #{source := Source} = Providers) ->
    {Module, AtOnce} = maps:get(Kind, Providers),
    #{connection => Connection, source => Source, provider => Module, at_once => AtOnce}.

%% One call is one turn: a request that needs several calls takes several turns, and delays others
%% by no more than one.
-spec in_turn(curve_tun_fair_queue:turn(), atom(), [term()]) -> term().
in_turn(#{provider := Module} = Turn, Function, Arguments) ->
    curve_tun_fair_queue:call(Turn, fun() -> apply(Module, Function, Arguments) end).
