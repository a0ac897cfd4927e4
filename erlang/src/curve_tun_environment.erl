%%% @private
%%% Checks the application's environment before anything is started.
%%%
%%% A misspelt setting would otherwise be ignored: a node whose `vault_file' is not read has a
%%% different key from the one its peers know, and reports nothing. So the application does not
%%% start. The error gives only the name of the setting, since its value may be secret.
-module(curve_tun_environment).

-export([check/0]).
-export_type([fault/0]).

-type fault() :: {bad_environment, Key :: atom() | {vault_providers | registry_providers, Module :: term()}}.
%% An unknown key, a key whose value cannot be used, or a module that is no provider.

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
%% The registry itself checks its settings.
check({registry_dns, _Settings}, Env) ->
    usable(is_named(curve_tun_dns_registry, registry_providers, Env), registry_dns);
check({event_handler, Handler}, _Env) ->
    usable(curve_tun_events:is_handler(Handler), event_handler);
%% Set by OTP.
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

%% Settings of a provider that is not used have no effect.
-spec is_named(module(), atom(), [{atom(), term()}]) -> boolean().
is_named(Module, Key, Env) ->
    case lists:keyfind(Key, 1, Env) of
        {Key, Modules} when is_list(Modules) -> lists:member(Module, Modules);
        _ -> false
    end.
