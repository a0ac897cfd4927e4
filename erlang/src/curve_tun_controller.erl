%%% @private
%%% Hands a connection over to another controller, with what is in the old one's mailbox.
-module(curve_tun_controller).

-export([hand_over/2]).

-spec hand_over(curve_tun:socket(), pid()) -> ok | {error, not_owner | closed}.
hand_over({curve_tun_socket, Connection, _, _} = Socket, Pid) ->
    case curve_tun_request:call(Connection, pause) of
        {ok, Active} ->
            _ = pass_on(Socket, Pid, open),
            case curve_tun_request:call(Connection, {controlling_process, Pid, Active}) of
                {error, closed} -> over(Socket, Pid);
                Result -> Result
            end;
        {error, closed} ->
            over(Socket, Pid);
        {error, Reason} ->
            {error, Reason}
    end.

%% Everything left of a finished connection may be in the mailbox of its controller.
-spec over(curve_tun:socket(), pid()) -> ok | {error, closed}.
over(Socket, Pid) ->
    case pass_on(Socket, Pid, open) of
        open -> {error, closed};
        closed -> ok
    end.

-spec pass_on(curve_tun:socket(), pid(), open | closed) -> open | closed.
pass_on(_Socket, Pid, State) when Pid =:= self() ->
    State;
pass_on(Socket, Pid, State) ->
    receive
        {curve_tun, Socket, _} = Message -> Pid ! Message, pass_on(Socket, Pid, State);
        {curve_tun_passive, Socket} = Message -> Pid ! Message, pass_on(Socket, Pid, State);
        {curve_tun_end, Socket} = Message -> Pid ! Message, pass_on(Socket, Pid, State);
        {curve_tun_error, Socket, _} = Message -> Pid ! Message, pass_on(Socket, Pid, State);
        {curve_tun_closed, Socket} = Message -> Pid ! Message, pass_on(Socket, Pid, closed)
    after 0 ->
        State
    end.
