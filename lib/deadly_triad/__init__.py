"""The mathematics of *When Q-Learning Diverges*, importable without a notebook.

Six floors; a module imports only from floors below its own, inside functions too:

    5  training        two loops: one compiled, for environments in JAX; one on the host, for Gymnasium
    4  agents          act and update of an actor and its critics (PreQN, DDPG, TD3), the memory
    3  adapters        networks of Flax, Equinox and PyTorch, and any function
    3  preqn           Q-learning preconditioned by the kernel of its minibatch, with a line search
    3  diagnosis       from a network and its transitions to the verdicts of the theory
    3  cures           emphatic weighting, gradient TD, target networks
    3  examples        Baird's counterexample, w -> 2w, random MDPs
    3  linear_q        Expected Sarsa and linear Q-learning on state-action pairs
    2  linear_td       expected and sampled linear TD: the parameter view
    2  ntk             the kernel of a network without its Jacobian, J^T z
    2  certificates    is there a norm in which a set of matrices contracts?
    2  kernel_updates  updates that generalise, and Theorem 2: the value view
    2  value_updates   updates of a table
    2  stability       when does x -> x - step_size (M x - c) settle?
    1  networks        small networks as functions, initialisations, activations
    1  environments    what a functional environment is, and the pendulum
    1  mdp             finite MDPs, policies, Bellman operators, exact values
    1  fixed_point     iterate a map, norms, modulus, Banach's bounds
    0  _checks         what is asked of arguments
"""
