%%% @private
%%% Supervises the connections. None is restarted: its peer would know nothing of it.
-module(curve_tun_connection_sup).
-behaviour(supervisor).

-export([start_link/0, start_child/1]).
-export([init/1]).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

%% Starts a connection for a controller, and gives its socket.
-spec start_child(pid()) -> {ok, pid(), curve_tun:socket()} | {error, closed}.
start_child(Controller) ->
    try supervisor:start_child(?MODULE, [Controller]) of
        {ok, Pid, Socket} -> {ok, Pid, Socket}
    catch
        exit:_ -> {error, closed}
    end.

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Child = #{id => curve_tun_connection, start => {curve_tun_connection, start_link, []},
              restart => temporary, shutdown => 1000},
    {ok, {#{strategy => simple_one_for_one}, [Child]}}.
