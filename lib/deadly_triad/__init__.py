"""The mathematics of *When Q-Learning Diverges*, importable without a notebook.

Five floors; a module imports only from modules that stand below it in this list:

    4  agents          actor, critic and environment in one compiled loop
    3  adapters        networks of Flax, Equinox and PyTorch, and any function
    3  preqn           Q-learning preconditioned by the kernel of its minibatch, with a line search
    3  cures           emphatic weighting, gradient TD, target networks
    2  examples        Baird's counterexample, w -> 2w, random MDPs
    2  linear_q        Expected Sarsa and linear Q-learning on state-action pairs
    2  linear_td       expected and sampled linear TD: the parameter view
    2  ntk             the kernel of a network without its Jacobian, its rows, J^T z
    2  certificates    is there a norm in which a set of matrices contracts?
    2  kernel_updates  updates that generalise, and Theorem 2: the value view
    2  value_updates   updates of a table
    1  stability       when does x -> x - step_size (M x - c) settle?
    1  networks        small networks as functions, initialisations, activations
    1  mdp             finite MDPs, policies, Bellman operators, exact values
    0  fixed_point     iterate a map, norms, modulus, Banach's bounds
"""
