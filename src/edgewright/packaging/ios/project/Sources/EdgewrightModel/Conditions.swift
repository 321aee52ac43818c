// Heat and low-power mode of the device.
import Foundation

#if canImport(CoreML)
/// Calls back when the device gets hot or enters low-power mode, and when that ends.
public final class Conditions {
    private var observers: [NSObjectProtocol] = []

    /// Whether an app should do less: serious heat, or low-power mode.
    public static var areLimited: Bool {
        let info = ProcessInfo.processInfo
        return info.isLowPowerModeEnabled || info.thermalState == .serious || info.thermalState == .critical
    }

    /// Whether an app should pause the model: critical heat.
    public static var areCritical: Bool { ProcessInfo.processInfo.thermalState == .critical }

    public init(changed: @escaping @Sendable () -> Void) {
        let names = [ProcessInfo.thermalStateDidChangeNotification, Notification.Name.NSProcessInfoPowerStateDidChange]
        observers = names.map { name in
            NotificationCenter.default.addObserver(forName: name, object: nil, queue: nil) { _ in changed() }
        }
    }

    deinit { observers.forEach(NotificationCenter.default.removeObserver) }
}
#endif
