%%% @private
%%% The application's environment, looked through before anything is started with it.
%%%
%%% A setting that is misspelt would otherwise be none: a node whose `vault_file' is not read has
%%% another key than its peers know, and says nothing of it. So the application does not start. Only
%%% the name of what is wrong is told: the value may hold what is nobody's.
-module(curve_tun_environment).

-export([check/0]).
-export_type([fault/0]).

-type fault() :: {bad_environment, Key :: atom() | {vault_providers | registry_providers, Module :: term()}}.
%% A key that is not known, or whose value cannot be used; or a module that is no provider.

-spec check() -> ok | {error, fault()}.
check() ->
    Env = application:get_all_env(curve_tun),
    try lists:foreach(fun(Setting) -> check(Setting, Env) end, Env)
    catch throw:Wrong -> {error, {bad_environment, Wrong}}
    end.

-spec check({atom(), term()}, [{atom(), term()}]) -> ok.
check({Key, Modules}, _Env) when Key =:= vault_providers; Key =:= registry_providers ->
    Kind = case Key of vault_providers -> vault; registry_providers -> registry end,
    usable(is_list(Modules) andalso length(Modules) >= 0, Key),
    lists:foreach(fun(Module) -> usable(curve_tun_provider:is_provider(Kind, Module), {Key, Module}) end, Modules);
check({Key, Text}, Env) when Key =:= vault_file; Key =:= vault_agent; Key =:= vault_pkcs11; Key =:= vault_passphrase_file ->
    usable(is_text(Text) andalso is_named(curve_tun_vault_nif, vault_providers, Env), Key);
check({registry_file, Text}, Env) ->
    usable(is_text(Text) andalso is_named(curve_tun_simple_registry, registry_providers, Env), registry_file);
%% The registry looks at the settings itself.
check({registry_dns, _Settings}, Env) ->
    usable(is_named(curve_tun_dns_registry, registry_providers, Env), registry_dns);
check({event_handler, Handler}, _Env) ->
    usable(curve_tun_events:is_handler(Handler), event_handler);
%% OTP's own.
check({included_applications, _}, _Env) ->
    ok;
check({Key, _}, _Env) ->
    throw(Key).

-spec usable(boolean(), term()) -> ok.
usable(true, _What) -> ok;
usable(false, What) -> throw(What).

-spec is_text(term()) -> boolean().
is_text(Text) ->
    try unicode:characters_to_binary(Text) of
        <<_, _/binary>> -> true;
        _ -> false
    catch
        error:badarg -> false
    end.

%% What is said for a provider that is not used has no effect.
-spec is_named(module(), atom(), [{atom(), term()}]) -> boolean().
is_named(Module, Key, Env) ->
    case lists:keyfind(Key, 1, Env) of
        {Key, Modules} when is_list(Modules) -> lists:member(Module, Modules);
        _ -> false
    end.
