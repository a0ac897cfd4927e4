%%% @private
%%% Handing a connection over to another controller, with what the old one has got of it.
-module(curve_tun_controller).

-export([hand_over/2]).

-spec hand_over(curve_tun:socket(), pid()) -> ok | {error, not_owner | closed}.
hand_over({curve_tun_socket, Connection, _, _} = Socket, Pid) ->
    case curve_tun_request:call(Connection, pause) of
        {ok, Active} ->
            pass_on(Socket, Pid),
            case curve_tun_request:call(Connection, {controlling_process, Pid}) of
                ok -> restore(Connection, Active);
                {error, Reason} -> {error, Reason}
            end;
        {error, Reason} ->
            {error, Reason}
    end.

-spec pass_on(curve_tun:socket(), pid()) -> ok.
pass_on(_Socket, Pid) when Pid =:= self() ->
    ok;
pass_on(Socket, Pid) ->
    receive
        {curve_tun, Socket, _} = Message -> Pid ! Message, pass_on(Socket, Pid);
        {curve_tun_passive, Socket} = Message -> Pid ! Message, pass_on(Socket, Pid);
        {curve_tun_error, Socket, _} = Message -> Pid ! Message, pass_on(Socket, Pid);
        {curve_tun_closed, Socket} = Message -> Pid ! Message, pass_on(Socket, Pid)
    after 0 ->
        ok
    end.

%% A connection that is over by now has told the new controller so.
-spec restore(pid(), curve_tun:active()) -> ok.
restore(_Connection, false) ->
    ok;
restore(Connection, Active) ->
    _ = curve_tun_request:call(Connection, {set_active, Active}),
    ok.
