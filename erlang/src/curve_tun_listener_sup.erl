%%% @private
%%% Supervises the listeners. None is restarted: the process that listens owns the listener, as with
%%% `gen_tcp'.
-module(curve_tun_listener_sup).
-behaviour(supervisor).

-export([start_link/0, start_child/1, children/0]).
-export([init/1]).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

-spec start_child(curve_tun_listener:start()) -> {ok, pid()} | {error, term()}.
start_child(Start) ->
    try supervisor:start_child(?MODULE, [Start]) of
        {ok, Pid} when is_pid(Pid) -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    catch
        exit:_ -> {error, closed}
    end.

%% Returns all listeners; none if the supervisor is not running.
-spec children() -> [pid()].
children() ->
    try [Pid || {_, Pid, _, _} <- supervisor:which_children(?MODULE), is_pid(Pid)]
    catch
        exit:_ -> []
    end.

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Child = #{id => curve_tun_listener, start => {curve_tun_listener, start_link, []},
              restart => temporary, shutdown => 1000},
    {ok, {#{strategy => simple_one_for_one}, [Child]}}.
