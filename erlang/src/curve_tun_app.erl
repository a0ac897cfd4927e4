%%% @private
-module(curve_tun_app).
-behaviour(application).

-export([start/2, stop/1, check/0]).

-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Args) ->
    case curve_tun_environment:check() of
        ok -> start();
        {error, Reason} -> {error, Reason}
    end.

-spec start() -> {ok, pid()} | {error, term()}.
start() ->
    %% Later there may be no descriptor left for loading a module.
    {ok, Modules} = application:get_key(curve_tun, modules),
    ok = code:ensure_modules_loaded([inet_db, gen_tcp, inet_tcp | Modules]),
    ok = curve_tun_log:start(),
    ok = curve_tun_log:show(),
    curve_tun_sup:start_link().

-spec stop(term()) -> ok.
stop(_State) ->
    ok = curve_tun_log:hide(),
    curve_tun_handles:forget_all().

%% Says whether the application is running or about to run.
-spec check() -> ok | {error, {not_started, curve_tun}}.
check() ->
    case whereis(curve_tun_sup) of
        undefined -> {error, {not_started, curve_tun}};
        _ -> ok
    end.
