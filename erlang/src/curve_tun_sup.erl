%%% @private
%%% The top supervisor. Its children fail independently: connections hold what they use of a vault
%%% or a registry.
-module(curve_tun_sup).
-behaviour(supervisor).

-export([start_link/0]).
-export([init/1]).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Providers = curve_tun_provider:configured(vault_providers)
        ++ curve_tun_provider:configured(registry_providers),
    Flags = #{strategy => one_for_one, intensity => 10, period => 10},
    Children = [worker(curve_tun_cookie), worker(curve_tun_fair_queue)]
        ++ [provider(Module) || Module <- lists:usort(Providers), curve_tun_provider:has_process(Module)]
        ++ [worker(curve_tun_monitor), supervisor(connection_sup, curve_tun_connection_sup),
            supervisor(listener_sup, curve_tun_listener_sup)],
    {ok, {Flags, Children}}.

-spec worker(module()) -> supervisor:child_spec().
worker(Module) ->
    #{id => Module, start => {Module, start_link, []}, shutdown => 2000}.

%% A release upgrade finds processes by their modules: the process of a native vault or registry
%% runs curve_tun_provider_server.
-spec provider(module()) -> supervisor:child_spec().
provider(Module) ->
    (worker(Module))#{modules => [Module, curve_tun_provider_server]}.

-spec supervisor(atom(), module()) -> supervisor:child_spec().
supervisor(Id, Module) ->
    #{id => Id, start => {Module, start_link, []}, type => supervisor, shutdown => infinity}.
