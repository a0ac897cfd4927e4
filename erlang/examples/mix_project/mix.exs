defmodule Echo.MixProject do
  use Mix.Project

  # In a project of your own the dependency is
  #   {:curve_tun, git: "https://HOST/curve_tun.git", branch: "main", manager: :rebar3}
  # with the address of this repository. CURVE_TUN_GIT lets this example be built from any clone of it.
  def project do
    repository = System.get_env("CURVE_TUN_GIT", Path.expand("../../..", __DIR__))

    [
      app: :echo,
      version: "0.1.0",
      deps: [{:curve_tun, git: repository, manager: :rebar3}]
    ]
  end

  def application, do: []
end
