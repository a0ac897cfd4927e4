%%% @private
%%% Supervises the connections. None is restarted, since its peer would know nothing of the new one.
-module(curve_tun_connection_sup).
-behaviour(supervisor).

-export([start_link/0, start_child/1, children/0]).
-export([init/1]).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

%% Starts a connection for a controller.
-spec start_child(pid()) -> {ok, pid()} | {error, closed}.
start_child(Controller) ->
    try supervisor:start_child(?MODULE, [Controller]) of
        {ok, Pid} -> {ok, Pid}
    catch
        exit:_ -> {error, closed}
    end.

%% Returns all connections; none if the supervisor is not running.
-spec children() -> [pid()].
children() ->
    try [Pid || {_, Pid, _, _} <- supervisor:which_children(?MODULE), is_pid(Pid)]
    catch
        exit:_ -> []
    end.

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Child = #{id => curve_tun_connection, start => {curve_tun_connection, start_link, []},
              restart => temporary, shutdown => 1000},
    {ok, {#{strategy => simple_one_for_one}, [Child]}}.
