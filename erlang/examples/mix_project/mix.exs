defmodule Echo.MixProject do
  use Mix.Project

  # In a project of your own the dependency is
  #   {:curve_tun, git: "https://HOST/curve_tun.git", branch: "main", sparse: "erlang"}
  # with the address of this repository. This example takes the clone that it lies in, or the one that CURVE_TUN_GIT
  # names, as it stands.
  def project do
    repository = System.get_env("CURVE_TUN_GIT", Path.expand("../../..", __DIR__))

    [
      app: :echo,
      version: "0.1.0",
      deps: [{:curve_tun, git: repository, sparse: "erlang"}]
    ]
  end

  def application, do: []
end
