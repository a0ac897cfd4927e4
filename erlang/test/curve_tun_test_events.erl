%%% A handler of events that sends each to a process, and can be told to misbehave before that.
-module(curve_tun_test_events).
-behaviour(curve_tun_events).

-export([handle_event/4]).

handle_event(Event, Measurements, Metadata, #{to := Pid} = Config) ->
    Pid ! {event, Event, Measurements, Metadata},
    case Config of
        #{then := Then} -> Then();
        #{} -> ok
    end;
handle_event(_Event, _Measurements, _Metadata, _Config) ->
    ok.
